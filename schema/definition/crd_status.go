package definition

// statusField is one of a status, as an API server and 'kubectl explain' have it.
func statusField(kind, description string) map[string]any {
	f := map[string]any{"type": kind}
	if description != "" {
		f["description"] = description
	}
	return f
}

func statusNumber(description string) map[string]any {
	f := statusField("integer", description)
	f["format"] = "int64"
	return f
}

func statusList(description string, of map[string]any, required ...string) map[string]any {
	return map[string]any{"type": "array", "description": description, "items": map[string]any{"type": "object", "required": required, "properties": of}}
}

// statusShape is that of reconciler/api/v1alpha1.PoolStatus, which a test holds it to. Until
// somebody has looked at a pool, nobody takes its document for one that is done.
func statusShape() map[string]any {
	moment := statusField("string", "")
	moment["format"] = "date-time"
	return map[string]any{
		"type": "object", "description": "How the pool is, written by the reconciler.",
		"default": map[string]any{"observedGeneration": -1, "backlog": -1, "volumes": 0},
		"properties": map[string]any{
			"observedGeneration":     statusNumber("The generation of the document that this is about."),
			"lastHandledReconcileAt": statusField("string", "The value of the annotation reconcile.fluxcd.io/requestedAt that was followed last."),
			"lastAppliedRevision":    statusField("string", "Names what the document was rendered to when it was last applied."),
			"inventory":              statusField("string", "The ConfigMap that lists the objects of the pool."),
			"bricksOnline":           statusField("string", "How many bricks serve, of how many."),
			"backlog":                statusNumber("Entries that are to be healed, -1 when no agent could be asked."),
			"volumes":                statusNumber("Persistent volumes of the pool."),
			"sizeBytes":              statusNumber("Size of the pool, by what its bricks have."),
			"freeBytes":              statusNumber("What of it is free, to a hundredth of the size."),
			"promisedBytes":          statusNumber("The sum of the sizes of all volumes, as it was last known."),
			"rollWaitsSince":         map[string]any{"type": "string", "format": "date-time", "description": "Since when no brick could be restarted of those that are to be."},
			"conditions": statusList("Ready, Reconciling and Stalled as in kstatus; BricksOnline, Healed, QuotaEnforced.", map[string]any{
				"type": statusField("string", ""), "status": statusField("string", "True, False or Unknown."), "reason": statusField("string", ""), "message": statusField("string", ""),
				"observedGeneration": statusNumber(""), "lastTransitionTime": moment,
			}, "type", "status"),
			"bricks": statusList("Each brick, by its position in the document.", map[string]any{
				"index": statusNumber("The position, for ever."), "node": statusField("string", ""), "place": statusField("string", "The node and the device or path, or the claim."),
				"address": statusField("string", "The address of its pod."), "phase": statusField("string", "Pending, Starting, Joining, Filling, Online, Offline or Leaving."),
				"message": statusField("string", "Why it is not online, as far as that can be told."), "online": statusField("boolean", "Whether it answers as GlusterFS does."),
				"backlog": statusNumber("Entries that others are to be healed from it."), "splitBrain": statusNumber("Entries that nobody can read."),
				"outdated": statusField("boolean", "Its pod runs what was rendered before, and is to be restarted."),
			}, "index", "phase"),
		},
	}
}
