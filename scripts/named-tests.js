import { join } from 'node:path'
import { tsImport } from 'tsx/esm/api'

/**
 * Jest reporter: fails a run of everything (or of one shard of it) in which a test that the threat model names did not run. A run of some
 * files, or by name, is somebody's at work and answers for nothing.
 */
export default class NamedTests {
  constructor(globalConfig, { root = join(import.meta.dirname, '..') } = {}) {
    this.config = globalConfig
    this.root = root
  }

  async onRunComplete(_contexts, results) {
    if (!isWhole(this.config) || results.wasInterrupted) return
    const { notRun } = await tsImport('./threat-model/ran.ts', import.meta.url)
    const problems = notRun(this.root, results, { shard: this.config.shard !== undefined, ci: Boolean(process.env.CI) })
    for (const line of problems) console.error(line)
    if (problems.length > 0) this.error = new Error(`${problems.length} tests that docs/threat-model names did not run`)
  }

  getLastError() {
    return this.error
  }
}

function isWhole({ testPathPatterns, testNamePattern, onlyChanged, onlyFailures, findRelatedTests, runTestsByPath, watch, watchAll }) {
  return !(testPathPatterns.isSet() || testNamePattern || onlyChanged || onlyFailures || findRelatedTests || runTestsByPath || watch || watchAll)
}
