export { type DoctorOptions, doctor } from './doctor.js'
export { type Finding, lineOf } from './finding.js'
