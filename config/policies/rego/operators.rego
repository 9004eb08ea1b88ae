# Who may look, and who may stop: operators.cedar. A break-glass operator is an operator whose keys work with every identity provider down: the
# configuration puts it in the same group.
package mayfly

permit contains {"id": "oncall-stops-and-looks"} if {
	input.action in {"inspect", "freeze", "thaw", "emergencyRevoke", "offboard", "reconcile", "liftQuarantine"}
	in_group("sre-oncall")
}

permit contains {"id": "oncall-consents"} if {
	input.action in {"approve", "simulate", "drill"}
	in_group("sre-oncall")
}
