# What holds whatever else is granted: guardrails.cedar. A forbid with `step_up` asks a human instead of refusing. What a forbid is lifted by is
# said with `not`, so that it also holds where that is not known.
package mayfly

forbid contains {
	"id": "unclassified-intent",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "the task's intent was not classified: a human has to decide",
} if {
	is_obtaining
	not input.task.classified
}

forbid contains {
	"id": "restricted-write-needs-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "writing restricted data needs a human's consent",
} if {
	input.action == "write"
	role_level == 3
}

forbid contains {
	"id": "escalation-needs-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "escalating needs a human's consent",
} if {
	input.action == "escalate"
}

forbid contains {
	"id": "external-transfer-needs-a-human",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "sending data out needs a human's consent",
} if {
	input.action == "write"
	input.context.external
	for_label("export")
}

# A confidence that nobody gave is 0.
forbid contains {
	"id": "confidence-floor",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "the classification of the task's intent is too uncertain for anything but reading: a human has to decide",
} if {
	input.action in {"write", "escalate"}
	not is_confident(0.6)
}

# What is not confidential may be read all the same.
forbid contains {
	"id": "confidence-floor-reading",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "the classification of the task's intent is too uncertain to read confidential data: a human has to decide",
} if {
	input.action == "read"
	role_level >= 2
	not is_confident(0.6)
}

forbid contains {
	"id": "restricted-read-then-external-write",
	"reason": "this task has read restricted data, so it may not write to the outside",
} if {
	input.action == "write"
	input.context.external
	"read:restricted" in input.task.obtained
}

forbid contains {
	"id": "low-risk-reads-only",
	"reason": "an agent with the label low-risk only reads",
} if {
	input.action in {"write", "escalate"}
	has_label("low-risk")
}

# The waiver: somebody has written into the configuration that this may be lived with.
forbid contains {
	"id": "irrevocable-needs-a-waiver",
	"reason": `what is confidential and cannot be taken back before it expires needs a waiver: the label "irrevocable-accepted" on its role`,
} if {
	is_obtaining
	role_level >= 2
	input.role.revocation == "at-expiry"
	not for_label("irrevocable-accepted")
}

forbid contains {
	"id": "irrevocable-and-restricted",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "a credential for restricted data that cannot be taken back before it expires needs a human's consent",
} if {
	is_obtaining
	role_level == 3
	input.role.revocation == "at-expiry"
}
