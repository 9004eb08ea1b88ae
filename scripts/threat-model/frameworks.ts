/** What the document answers, item by item. An item is a heading of its page, `### <id> <name>`; ids and names are those of the source. */
export interface Framework {
  readonly page: string
  readonly items: readonly (readonly [id: string, name: string])[]
}

export const FRAMEWORKS: readonly Framework[] = [
  {
    page: 'docs/threat-model/owasp-agentic.md',
    items: [
      ['ASI01', 'Agent Goal Hijack'],
      ['ASI02', 'Tool Misuse and Exploitation'],
      ['ASI03', 'Identity and Privilege Abuse'],
      ['ASI04', 'Agentic Supply Chain Vulnerabilities'],
      ['ASI05', 'Unexpected Code Execution (RCE)'],
      ['ASI06', 'Memory & Context Poisoning'],
      ['ASI07', 'Insecure Inter-Agent Communication'],
      ['ASI08', 'Cascading Failures'],
      ['ASI09', 'Human-Agent Trust Exploitation'],
      ['ASI10', 'Rogue Agents'],
    ],
  },
  {
    page: 'docs/threat-model/owasp-nhi.md',
    items: [
      ['NHI1', 'Improper Offboarding'],
      ['NHI2', 'Secret Leakage'],
      ['NHI3', 'Vulnerable Third-Party NHI'],
      ['NHI4', 'Insecure Authentication'],
      ['NHI5', 'Overprivileged NHI'],
      ['NHI6', 'Insecure Cloud Deployment Configurations'],
      ['NHI7', 'Long-Lived Secrets'],
      ['NHI8', 'Environment Isolation'],
      ['NHI9', 'NHI Reuse'],
      ['NHI10', 'Human Use of NHI'],
    ],
  },
  {
    page: 'docs/threat-model/maestro.md',
    items: [
      ['Layer 1', 'Foundation Models'],
      ['Layer 2', 'Data Operations'],
      ['Layer 3', 'Agent Frameworks'],
      ['Layer 4', 'Deployment and Infrastructure'],
      ['Layer 5', 'Evaluation and Observability'],
      ['Layer 6', 'Security and Compliance'],
      ['Layer 7', 'Agent Ecosystem'],
    ],
  },
  {
    page: 'docs/threat-model/nist-ai-rmf.md',
    items: [
      ['GOVERN', 'policies, accountability, oversight'],
      ['MAP', 'context, risks and impacts'],
      ['MEASURE', 'test, assess and track'],
      ['MANAGE', 'treat, respond, deactivate'],
    ],
  },
  {
    // Of the techniques of ATLAS, those by which an agent's credentials and tools are obtained or used.
    page: 'docs/threat-model/mitre-atlas.md',
    items: [
      ['AML.T0012', 'Valid Accounts'],
      ['AML.T0055', 'Unsecured Credentials'],
      ['AML.T0082', 'RAG Credential Harvesting'],
      ['AML.T0083', 'Credentials from AI Agent Configuration'],
      ['AML.T0098', 'AI Agent Tool Credential Harvesting'],
      ['AML.T0106', 'Exploitation for Credential Access'],
      ['AML.T0090', 'OS Credential Dumping'],
      ['AML.T0091', 'Use Alternate Authentication Material'],
      ['AML.T0091.000', 'Application Access Token'],
      ['AML.T0073', 'Impersonation'],
      ['AML.T0051', 'LLM Prompt Injection'],
      ['AML.T0053', 'AI Agent Tool Invocation'],
      ['AML.T0081', 'Modify AI Agent Configuration'],
      ['AML.T0084', 'Discover AI Agent Configuration'],
      ['AML.T0085', 'Data from AI Services'],
      ['AML.T0086', 'Exfiltration via AI Agent Tool Invocation'],
      ['AML.T0101', 'Data Destruction via AI Agent Tool Invocation'],
      ['AML.T0103', 'Deploy AI Agent'],
      ['AML.T0108', 'AI Agent'],
      ['AML.T0110', 'AI Agent Tool Poisoning'],
      ['AML.T0034.002', 'Agentic Resource Consumption'],
      ['AML.T0049', 'Exploit Public-Facing Application'],
    ],
  },
]

/** The rows of what the field asks of such a broker: a table whose rows begin with their number. */
export const ROWS = { page: 'docs/threat-model/requirements.md', count: 38, tests: 'test/flows/requirements' } as const
