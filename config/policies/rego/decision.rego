# What the broker asks for: `data.mayfly.decision`. Every other file adds to three sets, and this one makes a decision of them, as Mayfly's own
# engine does: no permit is a no; a forbid is a no, and one with `step_up` asks those humans instead; a limit refuses nothing, and bounds what is
# allowed. Each member is an object:
#
#   permit  {"id", "reason"?, "max_ttl"?, "max_live"?}
#   forbid  {"id", "reason"?, "step_up"?, "approvals"?, "on_deny"?}
#   limit   {"id", "reason"?, "max_ttl"?, "max_live"?}
package mayfly

# A set that nothing adds to is empty.
permit contains policy if {
	some policy in set()
}

forbid contains policy if {
	some policy in set()
}

limit contains policy if {
	some policy in set()
}

default consent := []

# Consent comes with the second question: there nobody is asked again, and what asks for a consent that is not there is a no.
consent := input.approval.groups if input.action != "approve"

is_second if {
	input.action != "approve"
	input.approval.groups
}

refusing contains policy if {
	some policy in forbid
	not is_lifted(policy)
}

# Of its own: what a `not` is given is looked up before it, and where that is not there, the rule is left out instead of holding.
is_lifted(policy) if policy.step_up in consent

# Humans are asked where they alone stand in the way, and something allows it.
asks_humans if {
	not is_second
	count(refusing) > 0
	count(permit) > 0
	every policy in refusing {
		policy.step_up
	}
}

decision := object.union(verdict, about)

default verdict := {"outcome": "deny", "policies": [], "reasons": []}

verdict := object.union_n([{"outcome": "allow"}, told(permit | limit), bounds]) if {
	count(permit) > 0
	count(refusing) == 0
}

verdict := object.union_n([{"outcome": "step-up", "step_up": needs}, told(refusing), bounds]) if asks_humans

verdict := object.union_n([{"outcome": "deny"}, told(refusing), follows]) if {
	count(refusing) > 0
	not asks_humans
}

# `version := "2030-01-31"` in any file is what events name as the policies' version: what lives is decided anew when it changes. Without it, the
# revisions of the bundles are.
default about := {}

about := {"version": data.mayfly.version}

# The policies that decided, and their reasons in the same order.
told(policies) := {
	"policies": [policy.id | some policy in by_id(policies)],
	"reasons": [policy.reason | some policy in by_id(policies)],
}

by_id(policies) := [policy |
	some id in sort({one.id | some one in policies})
	some policy in policies
	policy.id == id
]

# What a denial brings about.
default follows := {}

follows := {"on_deny": consequences} if {
	consequences := sort({policy.on_deny | some policy in refusing})
	count(consequences) > 0
}

# The least that any of those that allow or limit says.
bounds := {name: least |
	some name in ["max_ttl", "max_live"]
	least := min({policy[name] | some policy in (permit | limit)})
}

# Each group once, with the most of it that any asks for.
needs := [{"group": group, "approvals": most} |
	some group in sort({policy.step_up | some policy in refusing})
	most := max({object.get(policy, "approvals", 1) |
		some policy in refusing
		policy.step_up == group
	})
]
