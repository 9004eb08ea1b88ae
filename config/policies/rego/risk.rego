# How an agent behaves, and how much it has obtained: risk.cedar. Its risk, 0 to 100 in steps of ten, is counted by the broker.
package mayfly

forbid contains {
	"id": "risk-writes-need-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "this agent behaves in an unusual way: a human has to agree before it writes",
} if {
	input.action in {"write", "escalate"}
	is_agent
	input.agent.risk >= 50
}

forbid contains {
	"id": "risk-hands-nothing-on",
	"reason": "this agent behaves in an unusual way: it hands nothing on",
} if {
	input.action == "delegate"
	is_agent
	input.agent.risk >= 50
}

# Nobody can be asked about a tool call.
forbid contains {
	"id": "risk-tools-only-read",
	"reason": "this agent behaves in an unusual way: its tools only read",
} if {
	is_calling
	is_agent
	input.agent.risk >= 50
	input.tool.access != "read"
}

forbid contains {
	"id": "risk-denies",
	"reason": "this agent behaves like something that is out of control: it obtains and calls nothing until it has been quiet for a while",
} if {
	is_obtaining_or_calling
	is_agent
	input.agent.risk >= 80
}

# Only who goes on when it is refused everything, or when an operator says so.
forbid contains {
	"id": "risk-suspends",
	"on_deny": "suspend-agent",
	"reason": "this agent is out of control, and went on when it was refused",
} if {
	is_obtaining_or_calling
	is_agent
	input.agent.risk >= 90
}

# A budget over all tasks of an agent. Over one task's tree: input.task.counts, which is exact.
forbid contains {
	"id": "autonomous-write-budget",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "this agent has written twenty times within the last hour: a human has to agree to more",
} if {
	input.action == "write"
	is_autonomy("autonomous")
	input.agent.recent.write >= 20
	not input.context.renewal
}
