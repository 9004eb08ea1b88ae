# A retrieval copilot: retrieval-copilot.cedar. The label "retrieval-copilot". It answers questions from documents, and writes nothing, ever. What
# is confidential it reads for a human who asked; what is restricted, and the keys to other things, never.
package mayfly

permit contains {"id": "retrieval-copilot-reads", "max_ttl": 600, "max_live": 5} if {
	input.action == "read"
	has_label("retrieval-copilot")
	for_label("documents")
	role_level <= 1
}

permit contains {"id": "retrieval-copilot-reads-for-a-human", "max_ttl": 300, "max_live": 3} if {
	input.action == "read"
	has_label("retrieval-copilot")
	for_label("documents")
	role_level == 2
	input.task.human
}

permit contains {"id": "retrieval-humans"} if {
	input.action == "read"
	is_human
	for_label("documents")
	role_level <= 2
}

forbid contains {
	"id": "retrieval-copilot-reads-only",
	"reason": "a retrieval copilot only reads",
} if {
	input.action in {"write", "escalate"}
	has_label("retrieval-copilot")
}

forbid contains {
	"id": "retrieval-copilot-nothing-restricted",
	"reason": "an answer of a retrieval copilot may be seen by anybody who asks: nothing restricted",
} if {
	input.action == "read"
	has_label("retrieval-copilot")
	role_level > 2
}
