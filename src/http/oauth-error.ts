import { ERRORS, type ErrorCode } from '../errors.js'

type OAuthError = readonly [status: number, error: string]

/** RFC 6749 §5.2 and §4.1.2.1: by the status that the code has everywhere else. */
const BY_STATUS: Partial<Record<number, OAuthError>> = {
  400: [400, 'invalid_request'],
  401: [401, 'invalid_client'],
  403: [403, 'access_denied'],
  405: [405, 'invalid_request'],
  413: [413, 'invalid_request'],
  415: [400, 'invalid_request'],
  422: [400, 'invalid_request'],
  429: [429, 'temporarily_unavailable'],
  503: [503, 'temporarily_unavailable'],
}
const ANY_OTHER: OAuthError = [500, 'server_error']

/** What one of our codes is on an OAuth endpoint. */
export function oauthErrorOf(code: ErrorCode): OAuthError {
  return BY_STATUS[ERRORS[code].status] ?? ANY_OTHER
}
