package rpc

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

const (
	// defaultSize is the size of a volume whose request has none, in bytes.
	defaultSize = 1 << 30
	// maxSize keeps sums of sizes within an int64, in bytes.
	maxSize = 1 << 60
	// maxName is the longest name of a request, in bytes (CSI specification: strings have at
	// most 128 bytes).
	maxName = 128
)

// RequireFields returns an error unless all fields of a request, given as name and value,
// have a value.
func RequireFields(fields ...string) error {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] == "" {
			return Invalid("%s missing", fields[i])
		}
	}
	return nil
}

// CheckName checks the name in a request to create something.
func CheckName(name string) error {
	if err := RequireFields("name", name); err != nil {
		return err
	}
	if len(name) > maxName {
		return Invalid("the name has %d bytes; at most %d are allowed", len(name), maxName)
	}
	return nil
}

// ReadCapacity reads a capacity range: the size that a volume gets, and the most that it may
// have, 0 for no limit, in bytes.
func ReadCapacity(r *csi.CapacityRange) (size, limit int64, err error) {
	size, limit = r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case size < 0 || limit < 0:
		return 0, 0, Invalid("negative size")
	case limit > 0 && size > limit:
		return 0, 0, fmt.Errorf("%w: at least %d and at most %d bytes requested", ErrOutOfRange, size, limit)
	case size > maxSize:
		return 0, 0, fmt.Errorf("%w: %d bytes requested, more than any pool has", ErrOutOfRange, size)
	case size == 0:
		size = defaultSize
		if limit > 0 {
			size = min(size, limit)
		}
	}
	return size, limit, nil
}

// Inaccessible returns the health of a volume that cannot be reached.
func Inaccessible(id, reason, message string) *csi.VolumeHealth {
	return Unhealthy(id, csi.VolumeHealthErrorType_INACCESSIBLE, reason, message)
}

// Unhealthy returns the health of a volume with one problem.
func Unhealthy(id string, status csi.VolumeHealthErrorType, reason, message string) *csi.VolumeHealth {
	return &csi.VolumeHealth{
		VolumeId:       id,
		HealthStatuses: []*csi.VolumeHealth_VolumeHealthEntry{{Status: status, Reason: reason, Message: message}},
	}
}
