# What an agent's autonomy bounds, whatever else is granted: autonomy.cedar. The less a human has seen of what an agent does, the shorter, and
# the less at once.
package mayfly

limit contains {"id": "scripted-limits", "max_ttl": 3600} if {
	is_obtaining
	is_autonomy("scripted")
}

limit contains {"id": "supervised-limits", "max_ttl": 1800} if {
	is_obtaining
	is_autonomy("supervised")
}

limit contains {"id": "supervised-write-limits", "max_ttl": 900, "max_live": 10} if {
	input.action == "write"
	is_autonomy("supervised")
}

limit contains {"id": "autonomous-limits", "max_ttl": 900, "max_live": 20} if {
	is_obtaining
	is_autonomy("autonomous")
}

limit contains {"id": "autonomous-write-limits", "max_ttl": 300, "max_live": 2} if {
	input.action == "write"
	is_autonomy("autonomous")
}

forbid contains {
	"id": "autonomous-never-escalates",
	"reason": "an autonomous agent never escalates",
} if {
	input.action == "escalate"
	is_autonomy("autonomous")
}

forbid contains {
	"id": "autonomous-restricted-write",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "an autonomous agent writes restricted data with a human's consent alone",
} if {
	input.action == "write"
	is_autonomy("autonomous")
	role_level == 3
}
