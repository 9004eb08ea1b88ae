# What stops needs one operator, what lets go again two: thaw-by-two.cedar.
package mayfly

forbid contains {
	"id": "thaw-takes-two",
	"step_up": "sre-oncall",
	"approvals": 1,
	"reason": "a freeze is thawed by two operators: another one has to ask for it too",
} if {
	input.action == "thaw"
}
