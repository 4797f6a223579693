package uml

import "testing"

// TestBootsOn: processors with AMX are told by their flags, and by nothing else that looks so.
func TestBootsOn(t *testing.T) {
	for cpuinfo, want := range map[string]bool{
		"": true,
		"processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu xsave avx512f\nbugs\t\t: sysret_ss_attrs\n":                        true,
		"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu xsave avx512f amx_bf16 avx512_fp16 amx_tile amx_int8\nbugs\t\t:\n": false,
		"processor\t: 0\nflags\t\t: fpu\n\nprocessor\t: 1\nflags\t\t: fpu amx_tile\n":                                                 false,
		"processor\t: 0\nmodel name\t: amx_tile\nflags\t\t: fpu amx_tiles\nvmx flags\t: amx_tile\n":                                   true,
	} {
		if got := bootsOn(cpuinfo); got != want {
			t.Errorf("%q: %t", cpuinfo, got)
		}
	}
}
