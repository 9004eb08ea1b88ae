# What the policies read of `input`. It is a request in the form of the cases of `mayfly policy test`, with everything said; and `principal`, for
# whom it is asked: "agent", "orchestrator", "operator", or "human". On behalf of a human it is asked for both, and both must be allowed.
package mayfly

# In each action of this name.
is_obtaining if input.action in {"read", "write", "escalate"}

is_agent if input.principal == "agent"

is_human if input.principal == "human"

is_orchestrator if input.principal == "orchestrator"

is_autonomy(autonomy) if {
	is_agent
	input.agent.autonomy == autonomy
}

in_team(team) if input[input.principal].team == team

# What a human's own token showed; whom somebody only named is in none.
in_team(team) if {
	is_human
	input.task.human_proof.team == team
}

in_group(group) if {
	input.principal == "operator"
	group in input.operator.groups
}

in_group(group) if {
	is_human
	group in input.task.human_proof.groups
}

has_label(label) if {
	is_agent
	label in input.agent.labels
}

for_label(label) if label in input.role.labels

is_calling if input.action == "callTool"

is_obtaining_or_calling if is_obtaining

is_obtaining_or_calling if is_calling

tool_level := level(input.tool.sensitivity)

# Sensitivity as a number: what is not one of the four is the strictest.
level(sensitivity) := object.get({"public": 0, "internal": 1, "confidential": 2}, sensitivity, 3)

role_level := level(input.role.sensitivity)

is_confident(confidence) if input.task.confidence >= confidence

# The caller opened this task, or the one at the root of its tree, or is about to.
is_own if {
	some opener in ["opened_by", "root_opened_by"]
	input.task[opener].kind == input.principal
	input.task[opener].id == input[input.principal].id
	input.task[opener].issuer == input[input.principal].issuer
}

# An agent opened the task, or the one at the root of its tree.
is_self_opened if {
	object.get(input.task, "orchestrator", "") == ""
	input.task.opened_by.kind != "orchestrator"
}
