package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// semver is a version's three numbers.
type semver [3]int

func parseSemver(text string) (semver, error) {
	var v semver
	core, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), "-")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return v, fmt.Errorf("%q is not a version", text)
	}
	for i, part := range parts {
		number, err := strconv.Atoi(part)
		if err != nil {
			return v, fmt.Errorf("%q is not a version", text)
		}
		v[i] = number
	}
	return v, nil
}

func (v semver) less(other semver) bool {
	for i := range v {
		if v[i] != other[i] {
			return v[i] < other[i]
		}
	}
	return false
}

// checkServerVersion is the check of generation C before it joins through a proxy. What the
// server does not say, or says unreadably, is no reason to stop.
func (c *client) checkServerVersion(ctx context.Context) error {
	own, err := parseSemver(c.version)
	if err != nil {
		return nil
	}
	found, err := c.find(ctx, c.proxy)
	if err != nil {
		return nil
	}
	if least, err := parseSemver(found.MinClientVersion); err == nil && own.less(least) {
		return fmt.Errorf("version %s is older than the server's minimum %s", c.version, found.MinClientVersion)
	}
	if server, err := parseSemver(found.ServerVersion); err == nil && server[0] < own[0] {
		return fmt.Errorf("version %s is of a newer major than the server's %s", c.version, found.ServerVersion)
	}
	return nil
}
