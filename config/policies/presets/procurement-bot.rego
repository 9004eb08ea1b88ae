# A procurement bot: procurement-bot.cedar. The label "procurement-bot". It reads what is labelled "procurement"; it orders and pays on behalf of
# a human alone, one at a time, and more than one order in one task needs a human's consent.
package mayfly

permit contains {"id": "procurement-bot-reads", "max_ttl": 900, "max_live": 5} if {
	input.action == "read"
	has_label("procurement-bot")
	for_label("procurement")
	role_level <= 2
}

permit contains {"id": "procurement-bot-orders", "max_ttl": 300, "max_live": 1} if {
	input.action == "write"
	has_label("procurement-bot")
	for_label("procurement")
	input.task.human
}

# The human must be allowed, too.
permit contains {"id": "procurement-humans"} if {
	input.action in {"read", "write"}
	is_human
	for_label("procurement")
}

forbid contains {
	"id": "procurement-bot-one-order",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "this task has ordered before: a human has to agree to more",
} if {
	input.action == "write"
	has_label("procurement-bot")
	input.task.counts.write >= 1
	not input.context.renewal
}

forbid contains {
	"id": "procurement-bot-certain",
	"reason": "money moves only where the intent is certain",
} if {
	input.action in {"write", "escalate"}
	has_label("procurement-bot")
	not is_confident(0.8)
}

forbid contains {
	"id": "procurement-bot-never-escalates",
	"reason": "a procurement bot does not escalate",
} if {
	input.action == "escalate"
	has_label("procurement-bot")
}
