package definition

// statusField returns the schema of a status field; 'kubectl explain' shows its description.
func statusField(kind, description string) map[string]any {
	f := map[string]any{"type": kind}
	if description != "" {
		f["description"] = description
	}
	return f
}

func statusText(description string) map[string]any { return statusField("string", description) }

func statusNumber(description string) map[string]any {
	f := statusField("integer", description)
	f["format"] = "int64"
	return f
}

func statusTime(description string) map[string]any {
	f := statusField("string", description)
	f["format"] = "date-time"
	return f
}

func statusList(description string, properties map[string]any, required ...string) map[string]any {
	return map[string]any{
		"type": "array", "description": description,
		"items": map[string]any{"type": "object", "required": required, "properties": properties},
	}
}

// statusShape returns the schema of reconciler/api/v1alpha1.PoolStatus; a test there compares
// their fields. The default marks a pool as not observed yet, so that tools that wait for a
// pool do not mistake it for ready.
func statusShape() map[string]any {
	return map[string]any{
		"type": "object", "description": "Observed state of the pool, written by the reconciler.",
		"default": map[string]any{"observedGeneration": -1, "backlog": -1, "volumes": 0},
		"properties": map[string]any{
			"observedGeneration":     statusNumber("Generation of the document that this status describes."),
			"lastHandledReconcileAt": statusText("Last handled value of the annotation reconcile.fluxcd.io/requestedAt."),
			"lastAppliedRevision":    statusText("Digest of the objects that were last applied."),
			"inventory":              statusText("ConfigMap that lists the objects of the pool."),
			"bricksOnline":           statusText("Bricks online, of all bricks."),
			"backlog":                statusNumber("Entries with pending heals; -1 if no agent is reachable."),
			"volumes":                statusNumber("Persistent volumes of the pool."),
			"sizeBytes":              statusNumber("Size of the pool, from the sizes of its bricks."),
			"freeBytes":              statusNumber("Free space of the pool, rounded to a hundredth of its size."),
			"promisedBytes":          statusNumber("Sum of the sizes of all volumes, when last known."),
			"rollWaitsSince":         statusTime("Since when a pending restart of bricks has been blocked."),
			"conditions":             conditionsShape(),
			"bricks":                 bricksShape(),
		},
	}
}

func conditionsShape() map[string]any {
	return statusList("Ready, Reconciling and Stalled as in kstatus; BricksOnline, Healed, QuotaEnforced.",
		map[string]any{
			"type": statusText(""), "status": statusText("True, False or Unknown."),
			"reason": statusText(""), "message": statusText(""),
			"observedGeneration": statusNumber(""), "lastTransitionTime": statusTime(""),
		}, "type", "status")
}

func bricksShape() map[string]any {
	return statusList("Bricks by their position in the document.", map[string]any{
		"index":      statusNumber("Position in the document; it never changes."),
		"node":       statusText(""),
		"place":      statusText("Node and device or path, or claim."),
		"address":    statusText("Address of the brick's pod."),
		"phase":      statusText("Pending, Starting, Joining, Filling, Online, Offline or Leaving."),
		"message":    statusText("Why the brick is not online, if known."),
		"online":     statusField("boolean", "Whether glusterfsd responds."),
		"backlog":    statusNumber("Entries of which other bricks need a heal from this one."),
		"splitBrain": statusNumber("Entries in split-brain, which clients cannot read."),
		"outdated":   statusField("boolean", "Whether the pod has an older configuration and needs a restart."),
	}, "index", "phase")
}
