export { testProvider } from './test-provider.js'
