export { approvalNotice } from './approval-notice.js'
export { openWebhooks, type Webhooks } from './webhooks.js'
