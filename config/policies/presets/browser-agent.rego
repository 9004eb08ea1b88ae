# A browser agent: browser-agent.cedar. The label "browser-agent". What it sees was written by strangers, who may speak to it: it holds little,
# for minutes, and nothing at all once its task has read what must not leave.
package mayfly

permit contains {"id": "browser-agent-reads", "max_ttl": 300, "max_live": 2} if {
	input.action == "read"
	has_label("browser-agent")
	is_for_the_web
}

permit contains {"id": "browser-agent-submits", "max_ttl": 120, "max_live": 1} if {
	input.action == "write"
	has_label("browser-agent")
	is_for_the_web
}

is_for_the_web if {
	for_label("web")
	role_level <= 1
}

forbid contains {
	"id": "browser-agent-submits-with-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "a page may have asked for this: a human has to agree",
} if {
	input.action == "write"
	has_label("browser-agent")
}

forbid contains {
	"id": "browser-agent-after-a-confidential-read",
	"reason": "this task has read what must not leave: no browser any more",
} if {
	is_obtaining
	has_label("browser-agent")
	some obtained in ["read:confidential", "read:restricted"]
	obtained in input.task.obtained
}

forbid contains {
	"id": "browser-agent-web-alone",
	"reason": "a browser agent holds what is made for the web, and nothing else",
} if {
	is_obtaining
	has_label("browser-agent")
	not is_for_the_web
}
