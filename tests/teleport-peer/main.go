// Command teleport-peer is an independent second opinion on joining with a TPM as Teleport does
// it: a client that behaves as tbot, and a server that behaves as Teleport's Auth and Proxy.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `usage: teleport-peer COMMAND [FLAGS]

commands:
  client    join as tbot does, or lie
  server    let hosts join as Teleport does
  identify  print what a token's rules say about a TPM
`

func main() {
	commands := map[string]func([]string, io.Writer) int{
		"client":   runClient,
		"server":   runServer,
		"identify": runIdentify,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	os.Exit(commands[os.Args[1]](os.Args[2:], os.Stdout))
}

// runIdentify prints the hash and the serial number of an EK.
func runIdentify(arguments []string, out io.Writer) int {
	c := &client{}
	set := flag.NewFlagSet("identify", flag.ContinueOnError)
	c.flags(set)
	if set.Parse(arguments) != nil {
		return 2
	}
	e, err := c.attest()
	if err == nil {
		defer e.close()
		var facts ekFacts
		if facts, err = e.ekFacts(); err == nil {
			writeJSON(out, facts)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
