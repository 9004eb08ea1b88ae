export { approvalNotice } from './approval-notice.js'
export { ANSWERS, type Classifier, openClassifier, type Verdict } from './classifier.js'
export { openWebhooks, type Webhooks } from './webhooks.js'
