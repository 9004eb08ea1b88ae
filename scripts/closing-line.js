/** Jest reporter: ends the run with one plain line, and fails a CI run that skipped anything. */
export default class ClosingLine {
  onRunComplete(_contexts, results) {
    this.results = results
    const skipped = results.numPendingTests + results.numTodoTests
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites
    process.stdout.write(`\n${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped\n`)
  }

  getLastError() {
    const skipped = (this.results?.numPendingTests ?? 0) + (this.results?.numTodoTests ?? 0)
    return process.env.CI && skipped > 0 ? new Error(`${skipped} tests were skipped`) : undefined
  }
}
