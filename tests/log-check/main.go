// A second opinion on an exported log: the signed note by golang.org/x/mod, the tree by transparency-dev/merkle.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: log-check DIRECTORY")
	}
	size, err := check(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	fmt.Printf("verified %d\n", size)
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}

func check(directory string) (uint64, error) {
	key, err := os.ReadFile(filepath.Join(directory, "log.pub"))
	if err != nil {
		return 0, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return 0, err
	}
	head, err := os.ReadFile(filepath.Join(directory, "log.head"))
	if err != nil {
		return 0, err
	}
	signed, err := note.Open(head, note.VerifierList(verifier))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return 0, fmt.Errorf("not a checkpoint of this log: %q", signed.Text)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return 0, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return 0, err
	}
	authority := lines[0][strings.LastIndex(lines[0], "/")+1:]
	computed, err := rootOf(filepath.Join(directory, authority+".jsonl"), size)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(root, computed) {
		return 0, fmt.Errorf("the root is %x, but that of the entries is %x", root, computed)
	}
	return size, nil
}

// rootOf returns the root of the tree over the first lines of a file.
func rootOf(file string, size uint64) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	hasher := rfc6962.DefaultHasher
	factory := compact.RangeFactory{Hash: hasher.HashChildren}
	tree := factory.NewEmptyRange(0)
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		if tree.End() == size {
			break
		}
		entry, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			return nil, fmt.Errorf("%d entries, but the head has %d", tree.End(), size)
		}
		leaf := hasher.HashLeaf(entry)
		// A line that is not JSON is a brief entry, or the hash of one that was removed, in hexadecimal.
		if !bytes.HasPrefix(entry, []byte("{")) {
			decoded, err := hex.DecodeString(string(entry))
			if err != nil {
				return nil, err
			}
			leaf = hasher.HashLeaf(decoded)
			if len(decoded) == hasher.Size() {
				leaf = decoded
			}
		}
		if err := tree.Append(leaf, nil); err != nil {
			return nil, err
		}
	}
	if size == 0 {
		return hasher.EmptyRoot(), nil
	}
	return tree.GetRootHash(nil)
}
