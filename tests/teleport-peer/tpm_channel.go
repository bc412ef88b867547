package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// networkTimeout bounds every step that waits for somebody else.
const networkTimeout = 30 * time.Second

// maxTPMResponse is the largest response of a TPM that this channel takes.
const maxTPMResponse = 16 << 10

// maxTPMCommand is the largest command that a kernel passes on to a TPM.
const maxTPMCommand = 4096

// tpmChannel sends one command at a time to a TPM and returns its whole response, whatever the
// socket makes of it. It counts the commands.
type tpmChannel struct {
	conn     io.ReadWriteCloser
	response bytes.Buffer
	commands int
}

// openTPM connects to the TPM at address: unix:PATH or tcp:HOST:PORT for a socket that takes raw
// commands (swtpm's --server), else the path of a device.
func openTPM(address string) (*tpmChannel, error) {
	var conn io.ReadWriteCloser
	var err error
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		conn, err = net.DialTimeout("unix", path, networkTimeout)
	} else if host, ok := strings.CutPrefix(address, "tcp:"); ok {
		conn, err = net.DialTimeout("tcp", host, networkTimeout)
	} else if address == "" {
		err = errors.New("pass --tpm unix:PATH, tcp:HOST:PORT or a device")
	} else {
		conn, err = os.OpenFile(address, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("opening TPM: %w", err)
	}
	channel := &tpmChannel{conn: conn}
	if err := channel.startUp(); err != nil {
		conn.Close()
		return nil, err
	}
	return channel, nil
}

// startUp sends TPM2_Startup(CLEAR), which a TPM that is running already refuses.
func (c *tpmChannel) startUp() error {
	if _, err := c.Write([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}); err != nil {
		return fmt.Errorf("starting TPM: %w", err)
	}
	header := make([]byte, 10)
	if _, err := io.ReadFull(c, header); err != nil {
		return fmt.Errorf("starting TPM: %w", err)
	}
	if code := binary.BigEndian.Uint32(header[6:]); code != 0 && code != 0x100 {
		return fmt.Errorf("starting TPM: response code 0x%x", code)
	}
	c.commands = 0
	return nil
}

func (c *tpmChannel) Write(command []byte) (int, error) {
	if len(command) > maxTPMCommand {
		return 0, fmt.Errorf("TPM command of %d bytes", len(command))
	}
	if conn, ok := c.conn.(net.Conn); ok {
		conn.SetDeadline(time.Now().Add(networkTimeout))
	}
	c.commands++
	c.response.Reset()
	if _, err := c.conn.Write(command); err != nil {
		return 0, err
	}
	return len(command), c.receive()
}

func (c *tpmChannel) receive() error {
	buffer := make([]byte, maxTPMResponse)
	want := 10
	for c.response.Len() < want {
		n, err := c.conn.Read(buffer)
		c.response.Write(buffer[:n])
		if err != nil {
			return fmt.Errorf("reading TPM response: %w", err)
		}
		if c.response.Len() >= 10 {
			size := binary.BigEndian.Uint32(c.response.Bytes()[2:6])
			if size > maxTPMResponse {
				return fmt.Errorf("TPM response of %d bytes", size)
			}
			want = max(10, int(size))
		}
	}
	return nil
}

func (c *tpmChannel) Read(p []byte) (int, error) { return c.response.Read(p) }
func (c *tpmChannel) Close() error               { return c.conn.Close() }

// MeasurementLog is asked for by go-attestation; a join needs none.
func (c *tpmChannel) MeasurementLog() ([]byte, error) { return nil, errors.New("no event log") }
