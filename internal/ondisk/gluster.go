package ondisk

// Names of GlusterFS' own attributes (GlusterFS 10).
const (
	// PendingAttribute, followed by the client name of another brick, is on the files and
	// directories that a brick has changed and the other lacks: three counters of 4 bytes, for
	// data, metadata and entries (cluster/replicate).
	PendingAttribute = "trusted.afr."
	// LinkAttribute is on empty files that point to the set which has the file
	// (cluster/distribute).
	LinkAttribute = "trusted.glusterfs.dht.linkto"
)
