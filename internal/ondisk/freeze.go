package ondisk

import "fmt"

// To copy an attached volume, the controller asks its node to pause writes. They communicate
// through a file on the pool: one xattr has the request, which the controller repeats as a
// heartbeat, another has the status, which the node writes.

// FreezeRequests is the directory of a pool for these files, named <volume>.<random>.
const FreezeRequests = Blocks + "/asks"

// Xattrs of such a file.
const (
	FreezeRequestAttribute = "trusted.atoll.ask"
	FreezeStatusAttribute  = "trusted.atoll.answer"
)

// FreezeRequest is the request, in JSON.
type FreezeRequest struct {
	Version int `json:"v"`
	// Heartbeat increases while the controller waits: when it does not, the node resumes writes.
	Heartbeat int64 `json:"beat"`
	// Copied reports that the copy is complete and asks whether anything was written.
	Copied bool `json:"copied,omitempty"`
}

// State is the state of a freeze on the node.
type State string

// The states in their order; Refused may replace any of them.
const (
	Stopping State = "stopping" // the node has seen the request
	Stopped  State = "stopped"  // writes are paused, and all earlier writes are on the bricks
	Kept     State = "kept"     // nothing was written since
	Written  State = "written"  // something was written: discard the copy
	Refused  State = "refused"  // writes could not be paused
)

// FreezeStatus is the status, in JSON.
type FreezeStatus struct {
	Version int    `json:"v"`
	Node    string `json:"node"`
	State   State  `json:"state"`
	Why     string `json:"why,omitempty"`
}

// DecodeFreezeRequest is strict, as Decode is.
func DecodeFreezeRequest(text []byte) (FreezeRequest, error) {
	var r FreezeRequest
	err := decode(text, &r, "a freeze request")
	return r, checkVersion(err, r.Version)
}

// Encode encodes a request.
func (r FreezeRequest) Encode() ([]byte, error) {
	r.Version = Version
	return encode(r, "a freeze request")
}

// DecodeFreezeStatus is strict, as Decode is.
func DecodeFreezeStatus(text []byte) (FreezeStatus, error) {
	var s FreezeStatus
	err := decode(text, &s, "a freeze status")
	return s, checkVersion(err, s.Version)
}

// Encode encodes a status.
func (s FreezeStatus) Encode() ([]byte, error) {
	s.Version = Version
	return encode(s, "a freeze status")
}

func checkVersion(err error, version int) error {
	if err == nil && version != Version {
		err = fmt.Errorf("%w: version %d; was it written by a newer program?", ErrRecord, version)
	}
	return err
}
