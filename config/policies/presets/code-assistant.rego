# A code assistant: code-assistant.cedar. The label "code-assistant". It reads and writes roles that are labelled "code", and nothing in
# production.
package mayfly

permit contains {"id": "code-assistant-reads", "max_ttl": 900, "max_live": 10} if {
	input.action == "read"
	has_label("code-assistant")
	for_label("code")
	role_level <= 2
}

permit contains {"id": "code-assistant-writes", "max_ttl": 600, "max_live": 3} if {
	input.action == "write"
	has_label("code-assistant")
	for_label("code")
	role_level <= 1
}

forbid contains {
	"id": "code-assistant-not-in-production",
	"reason": "a code assistant writes nothing where it cannot be reviewed first: have the change merged, and released by a pipeline",
} if {
	input.action in {"write", "escalate"}
	has_label("code-assistant")
	not is_reviewed
}

is_reviewed if {
	for_label("code")
	not for_label("production")
}

forbid contains {
	"id": "code-assistant-no-secrets",
	"reason": "what a code assistant reads ends up in prompts and commits: no secrets",
} if {
	is_obtaining
	has_label("code-assistant")
	is_secret
}

is_secret if role_level > 2

is_secret if for_label("secrets")
