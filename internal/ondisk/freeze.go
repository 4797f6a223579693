package ondisk

import "fmt"

// Who copies a volume that a node has asks that node to stop writing for so long. They meet
// at the pool: a file of Asks carries the question in one attribute, which who asks writes
// again and again, and the answer in another one, which the node writes.

// FreezeRequests is the folder of a pool for these files. They are called <volume>.<random>.
const FreezeRequests = Blocks + "/asks"

// Attributes of such a file.
const (
	FreezeRequestAttribute = "trusted.atoll.ask"
	FreezeStatusAttribute  = "trusted.atoll.answer"
)

// FreezeRequest is the question, in JSON.
type FreezeRequest struct {
	Version int `json:"v"`
	// Heartbeat counts up for as long as somebody waits: a node goes on when it does not.
	Heartbeat int64 `json:"beat"`
	// Copied says that the copy is complete: was nothing written all the time?
	Copied bool `json:"copied,omitempty"`
}

// State is what a node answers.
type State string

// The states, in the order in which they come; Refused comes instead of any of them.
const (
	Stopping State = "stopping" // the node has seen the question
	Stopped  State = "stopped"  // nothing is written any more, and all before is on the bricks
	Kept     State = "kept"     // nothing was written since
	Written  State = "written"  // something was: the copy is of no moment
	Refused  State = "refused"  // it could not be stopped
)

// FreezeStatus is the answer, in JSON.
type FreezeStatus struct {
	Version int    `json:"v"`
	Node    string `json:"node"`
	State   State  `json:"state"`
	Why     string `json:"why,omitempty"`
}

// DecodeFreezeRequest is strict, as Decode is.
func DecodeFreezeRequest(text []byte) (FreezeRequest, error) {
	var a FreezeRequest
	err := decode(text, &a, "the question to a node")
	return a, versioned(err, a.Version)
}

// Encode writes the question.
func (a FreezeRequest) Encode() ([]byte, error) {
	a.Version = Version
	return encode(a, "a question to a node")
}

// DecodeFreezeStatus is strict, as Decode is.
func DecodeFreezeStatus(text []byte) (FreezeStatus, error) {
	var a FreezeStatus
	err := decode(text, &a, "the answer of a node")
	return a, versioned(err, a.Version)
}

// Encode writes the answer.
func (a FreezeStatus) Encode() ([]byte, error) {
	a.Version = Version
	return encode(a, "an answer to who asked")
}

func versioned(err error, version int) error {
	if err == nil && version != Version {
		err = fmt.Errorf("%w: version %d; was it written by a newer program?", ErrRecord, version)
	}
	return err
}
