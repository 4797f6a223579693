package gluster

import (
	"slices"
	"testing"
)

func TestFewerReplicas(t *testing.T) {
	for user, want := range map[string]string{
		"copies-3": "copies-2", "copies-1": "copies-0", "": "", "copies": "",
		"copies-0": "", "a-b-2": "a-b-1",
	} {
		if got := (HealBrick{User: user}).FewerReplicas(); got != want {
			t.Errorf("%q: %q, want %q", user, got, want)
		}
	}
}

func TestAdmittedUsers(t *testing.T) {
	const text = "volume s\n type protocol/server\n option auth.login./b.allow b,a\n option auth.login.a.password a\nend-volume\n"
	if got, err := AdmittedUsers(text); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := AdmittedUsers("volume c\n type protocol/client\n option auth.login./b.allow a\nend-volume\n"); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
	if _, err := AdmittedUsers("volume"); err == nil {
		t.Error("an invalid volfile has users")
	}
}
