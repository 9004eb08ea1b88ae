# Which calls of tools are allowed, of those that a task lists: tools.cedar. What it does not list, or its plan has no step for, is refused before
# any policy is asked. A tool for `escalate` is called by nobody, until a policy says so.
#
# A forbid may have `on_deny`: "close-task" ends the task, "suspend-agent" stops the agent until an operator resumes it.
package mayfly

permit contains {"id": "tool-reads"} if {
	is_calling
	input.tool.access == "read"
	is_within(2)
}

permit contains {"id": "tool-writes"} if {
	is_calling
	input.tool.access == "write"
	is_within(1)
}

is_within(most) if {
	is_agent
	tool_level <= most
}

is_within(_) if {
	some autonomy in ["scripted", "supervised"]
	is_autonomy(autonomy)
}

# On behalf of a human, the human must be allowed too: anybody reads what is not confidential. Grant more by name or by tool.
permit contains {"id": "human-tool-reads"} if {
	is_calling
	is_human
	input.tool.access == "read"
	tool_level <= 1
}

does_more_than_read if {
	is_calling
	input.tool.access != "read"
}

forbid contains {
	"id": "unclassified-tool-writes",
	"reason": "the task's intent was not classified: its tools only read",
} if {
	does_more_than_read
	not input.task.classified
}

forbid contains {
	"id": "tool-confidence-floor",
	"reason": "the classification of the task's intent is too uncertain for tools that do more than read",
} if {
	does_more_than_read
	not is_confident(0.6)
}

# To read outside is to tell the outside what one looks for.
forbid contains {
	"id": "restricted-read-then-external-call",
	"reason": "this task has read restricted data, so it calls nothing that can let it out",
} if {
	is_calling
	input.tool.external
	"read:restricted" in input.task.obtained
}

forbid contains {
	"id": "low-risk-calls-only-read",
	"reason": "an agent with the label low-risk only reads",
} if {
	does_more_than_read
	has_label("low-risk")
}
