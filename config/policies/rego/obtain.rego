# Who may obtain what: obtain.cedar. Nothing is allowed that no policy here allows; guardrails.rego takes back what must never be, or needs a
# human. What a task's envelope doesn't name is refused before any policy is asked.
package mayfly

permit contains {"id": "read-scripted", "max_ttl": 3600} if {
	input.action == "read"
	is_autonomy("scripted")
	may_read
}

permit contains {"id": "read-supervised", "max_ttl": 1800} if {
	input.action == "read"
	is_autonomy("supervised")
	may_read
}

may_read if in_team("platform")

may_read if {
	in_team("analytics")
	role_level <= 2
}

permit contains {"id": "read-autonomous", "max_ttl": 900, "max_live": 20} if {
	input.action == "read"
	is_autonomy("autonomous")
	may_read
	role_level <= 2
}

permit contains {"id": "write-scripted", "max_ttl": 1800} if {
	input.action == "write"
	in_team("platform")
	is_autonomy("scripted")
}

permit contains {"id": "write-supervised", "max_ttl": 900, "max_live": 5} if {
	input.action == "write"
	in_team("platform")
	is_autonomy("supervised")
}

permit contains {"id": "write-autonomous", "max_ttl": 300, "max_live": 2} if {
	input.action == "write"
	in_team("platform")
	is_autonomy("autonomous")
}

# An autonomous agent never escalates.
permit contains {"id": "escalate", "max_ttl": 300, "max_live": 1} if {
	input.action == "escalate"
	in_team("platform")
	some autonomy in ["scripted", "supervised"]
	is_autonomy(autonomy)
}

# A preset for assistants of any team: the label "low-risk" lets an agent read what is not confidential, and nothing else.
permit contains {"id": "low-risk-read", "max_ttl": 900, "max_live": 10} if {
	input.action == "read"
	has_label("low-risk")
	role_level <= 1
}

# On behalf of a human, the human must be allowed too: anybody reads what is not confidential. More is granted by team or group, which only a
# token of theirs shows; whom an orchestrator merely names is in none.
permit contains {"id": "human-read"} if {
	input.action == "read"
	is_human
	role_level <= 1
}

permit contains {"id": "human-read-confidential"} if {
	input.action == "read"
	is_human
	in_team("analytics")
	role_level <= 2
}

permit contains {"id": "human-write", "max_ttl": 900} if {
	input.action == "write"
	is_human
	in_team("platform")
}
