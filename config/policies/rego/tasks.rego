# Who may open, change, end and hand on tasks: tasks.cedar. What an agent's own task may contain is bounded by `open_tasks` in the
# configuration, before this.
package mayfly

permit contains {"id": "orchestrators-open-tasks"} if {
	input.action == "openTask"
	is_orchestrator
}

permit contains {"id": "orchestrators-run-their-tasks"} if {
	input.action in {"changeTask", "endTask"}
	is_orchestrator
	is_own
}

permit contains {"id": "agents-open-tasks-for-themselves"} if {
	input.action == "openTask"
	is_agent
	is_own
}

# Changing what decisions depend on is not for the agent that they are about, but for making it stricter: whatever is allowed here, the broker
# takes nothing else from an agent.
permit contains {"id": "agents-run-their-tasks"} if {
	input.action in {"changeTask", "endTask"}
	is_agent
	is_own
}

# Who follows a script hands nothing on. Others do within their team, and to nobody of whom a human sees less than of themselves. The less a human
# has seen of what an agent does, the less deep.
permit contains {"id": "delegate-supervised"} if {
	input.action == "delegate"
	is_autonomy("supervised")
	input.delegation.depth <= 2
	is_of_same_team
	input.delegation.to_autonomy != "autonomous"
}

permit contains {"id": "delegate-autonomous"} if {
	input.action == "delegate"
	is_autonomy("autonomous")
	input.delegation.depth <= 1
	is_of_same_team
}

is_of_same_team if input.agent.team in input.delegation.to_teams

forbid contains {
	"id": "no-delegation-in-circles",
	"reason": "a task is not handed on to whom it came from: neither to oneself nor back",
} if {
	input.action == "delegate"
	input.delegation.to in input.delegation.chain
}
