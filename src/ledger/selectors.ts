import { MayflyError } from '../errors.js'
import { SELECTOR_KEYS, type Selector } from '../types.js'

/** One freeze may become this many fields, in each partition. */
const MOST_COMBINATIONS = 1_000

type Dimension = (typeof SELECTOR_KEYS)[number]

/** `dimension=value`, as the scripts compare it. */
export function token(dimension: Dimension, value: string): string {
  return `${dimension}=${encodeURIComponent(named(dimension, value))}`
}

/** What a stop finds a human by, however the name is written: whoever is to be stopped may have a say in that. */
export function folded(human: string): string {
  return human.normalize('NFKC').toLowerCase()
}

function named(dimension: Dimension, value: string): string {
  return dimension === 'human' ? folded(value) : value
}

/** The dimensions of a selector that has some, in their fixed order; an empty list means `all`. */
function dimensionsOf(selector: Selector): { dimension: Dimension; values: readonly string[] }[] {
  const given = SELECTOR_KEYS.flatMap((dimension) => {
    const values = selector[dimension]
    return values === undefined ? [] : [{ dimension, values: [...new Set(values)] }]
  })
  if (selector.all && given.length > 0) throw invalid('"all" stands alone')
  if (!selector.all && given.length === 0) throw invalid('it names nothing; {all: true} means everything')
  const empty = given.find(({ values }) => values.length === 0)
  if (empty) throw invalid(`"${empty.dimension}" is an empty list`)
  return given
}

/** Canonical form: `all`, or each combination of the lists' values, in the fixed order of the dimensions. */
export function freezeFields(selector: Selector): { fields: string[]; shape: string } {
  const given = dimensionsOf(selector)
  if (given.length === 0) return { fields: ['all'], shape: '' }
  const count = given.reduce((product, { values }) => product * values.length, 1)
  if (count > MOST_COMBINATIONS) throw invalid(`its lists make ${count} combinations, ${MOST_COMBINATIONS} at most; freeze in several steps`)
  const fields = given.reduce<string[]>(
    (prefixes, { dimension, values }) =>
      prefixes.flatMap((prefix) => values.map((value) => (prefix ? `${prefix}&${token(dimension, value)}` : token(dimension, value)))),
    [''],
  )
  return { fields, shape: given.length > 1 ? given.map(({ dimension }) => dimension).join('&') : '' }
}

/** For the scripts that match leases: each dimension's values, as they are and as tokens. */
export function matcherOf(selector: Selector): string {
  const given = dimensionsOf(selector)
  if (given.length === 0) return JSON.stringify({ all: true })
  const dims = given.map(({ dimension, values }) => [
    dimension,
    {
      raw: Object.fromEntries(values.map((value) => [named(dimension, value), 1])),
      tokens: Object.fromEntries(values.map((value) => [token(dimension, value), 1])),
    },
  ])
  return JSON.stringify({ dims: Object.fromEntries(dims) })
}

function invalid(what: string): MayflyError {
  return new MayflyError('request_invalid', `the selector cannot be used: ${what}`, { issues: [{ path: 'selector', message: what }] })
}
