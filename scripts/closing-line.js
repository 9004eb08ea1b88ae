import { writeSync } from 'node:fs'

/** Jest reporter: ends the run with one plain line, and fails a CI run that skipped anything. */
export default class ClosingLine {
  onRunComplete(_contexts, results) {
    const skipped = results.numPendingTests + results.numTodoTests
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites
    this.skipped = skipped
    // Jest's own summary comes after the reporters; this line is to be the last.
    process.once('exit', () => writeSync(1, `\n${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped\n`))
  }

  getLastError() {
    return process.env.CI && this.skipped > 0 ? new Error(`${this.skipped} tests were skipped`) : undefined
  }
}
