export { type DoctorOptions, doctor } from './doctor.js'
export { type Finding, lineOf } from './finding.js'
export { agentOf, type Readiness, ready } from './ready.js'
