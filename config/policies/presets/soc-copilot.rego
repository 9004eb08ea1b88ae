# A SOC copilot: soc-copilot.cedar. The label "soc-copilot". It reads what is labelled "security", also what is confidential, for an intent that an
# orchestrator named. Containment (a write to what is labelled "containment") takes a human of sre-oncall each time.
package mayfly

permit contains {"id": "soc-copilot-reads", "max_ttl": 900, "max_live": 15} if {
	input.action == "read"
	has_label("soc-copilot")
	for_label("security")
}

permit contains {"id": "soc-copilot-contains", "max_ttl": 300, "max_live": 2} if {
	input.action == "write"
	has_label("soc-copilot")
	for_label("containment")
}

forbid contains {
	"id": "soc-copilot-contains-with-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "containment cuts people and systems off: a human has to agree",
} if {
	input.action == "write"
	has_label("soc-copilot")
}

forbid contains {
	"id": "soc-copilot-classified-alone",
	"reason": "a SOC copilot works on what an orchestrator classified: its own word, or an alert's, is none",
} if {
	is_obtaining
	has_label("soc-copilot")
	not is_classified_by_an_orchestrator
}

is_classified_by_an_orchestrator if {
	input.task.classified
	not is_self_opened
}

forbid contains {
	"id": "soc-copilot-never-escalates",
	"reason": "a SOC copilot does not escalate",
} if {
	input.action == "escalate"
	has_label("soc-copilot")
}
