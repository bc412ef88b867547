package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

const websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// maxFrame bounds a WebSocket frame.
const maxFrame = 1 << 20

// WebSocket opcodes (RFC 6455, 5.2).
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// upgradeWebSocket asks for a WebSocket with the subprotocol alpn.
func upgradeWebSocket(conn net.Conn, host string) (net.Conn, error) {
	key := base64.StdEncoding.EncodeToString([]byte("teleport-peer-id"))
	response, reader, err := requestUpgrade(conn, host, http.Header{
		"Upgrade":                {"websocket"},
		"Sec-Websocket-Version":  {"13"},
		"Sec-Websocket-Key":      {key},
		"Sec-Websocket-Protocol": {"alpn"},
	})
	if err != nil {
		return nil, err
	}
	if got := response.Header.Get("Sec-Websocket-Accept"); got != websocketAccept(key) {
		return nil, fmt.Errorf("upgrade: wrong Sec-WebSocket-Accept %q", got)
	}
	if got := response.Header.Get("Sec-Websocket-Protocol"); got != "alpn" {
		return nil, fmt.Errorf("upgrade: subprotocol %q, not alpn", got)
	}
	return &websocketConn{Conn: conn, reader: reader, masks: true}, nil
}

// upgradeLegacy asks for the raw byte stream of older versions: kind is alpn or alpn-ping.
func upgradeLegacy(conn net.Conn, host, kind string) (net.Conn, error) {
	_, reader, err := requestUpgrade(conn, host, http.Header{
		"Upgrade":            {kind},
		"X-Teleport-Upgrade": {kind},
	})
	if err != nil {
		return nil, err
	}
	buffered := &bufferedConn{Conn: conn, reader: reader}
	if kind == "alpn-ping" {
		return &pingConn{Conn: buffered}, nil
	}
	return buffered, nil
}

func requestUpgrade(conn net.Conn, host string, header http.Header) (*http.Response, *bufio.Reader, error) {
	request, err := http.NewRequest(http.MethodGet, "https://"+host+pathConnectionUpgrade, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header = header
	request.Header.Set("Connection", "Upgrade")
	if err := request.Write(conn); err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, fmt.Errorf("upgrade: status %s", response.Status)
	}
	return response, reader, nil
}

func websocketAccept(key string) string {
	hash := sha1.Sum([]byte(key + websocketGUID))
	return base64.StdEncoding.EncodeToString(hash[:])
}

// bufferedConn reads what the HTTP reader has taken already first.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// websocketConn carries a byte stream in binary frames.
type websocketConn struct {
	net.Conn
	reader    *bufio.Reader
	masks     bool // a client masks its frames
	pong      func(payload []byte)
	remaining uint64
	mask      [4]byte
	position  int
	writing   sync.Mutex
}

func (c *websocketConn) Read(p []byte) (int, error) {
	for c.remaining == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > c.remaining {
		p = p[:c.remaining]
	}
	n, err := c.reader.Read(p)
	for i := range p[:n] {
		p[i] ^= c.mask[c.position%4]
		c.position++
	}
	c.remaining -= uint64(n)
	return n, err
}

// nextFrame reads a header, and answers control frames.
func (c *websocketConn) nextFrame() error {
	var header [2]byte
	if _, err := io.ReadFull(c.reader, header[:]); err != nil {
		return err
	}
	size := uint64(header[1] & 0x7f)
	if size >= 126 {
		extended := make([]byte, map[uint64]int{126: 2, 127: 8}[size])
		if _, err := io.ReadFull(c.reader, extended); err != nil {
			return err
		}
		size = 0
		for _, b := range extended {
			size = size<<8 | uint64(b)
		}
	}
	if size > maxFrame {
		return fmt.Errorf("WebSocket frame of %d bytes", size)
	}
	c.mask, c.position = [4]byte{}, 0
	if header[1]&0x80 != 0 {
		if _, err := io.ReadFull(c.reader, c.mask[:]); err != nil {
			return err
		}
	}
	c.remaining = size
	switch opcode := header[0] & 0x0f; opcode {
	case opBinary, opContinuation:
		return nil
	case opPing, opPong, opClose:
		return c.control(opcode)
	default:
		return fmt.Errorf("WebSocket frame with opcode %d", opcode)
	}
}

func (c *websocketConn) control(opcode byte) error {
	payload := make([]byte, c.remaining)
	if _, err := io.ReadFull(c.reader, payload); err != nil {
		return err
	}
	for i := range payload {
		payload[i] ^= c.mask[i%4]
	}
	c.remaining = 0
	switch opcode {
	case opClose:
		return io.EOF
	case opPing:
		return c.writeFrame(opPong, payload)
	case opPong:
		if c.pong != nil {
			c.pong(payload)
		}
	}
	return nil
}

func (c *websocketConn) Write(p []byte) (int, error) {
	for written := 0; written < len(p); {
		part := p[written:min(len(p), written+maxFrame)]
		if err := c.writeFrame(opBinary, part); err != nil {
			return written, err
		}
		written += len(part)
	}
	return len(p), nil
}

func (c *websocketConn) writeFrame(opcode byte, payload []byte) error {
	frame := []byte{0x80 | opcode}
	var masked byte
	if c.masks {
		masked = 0x80
	}
	switch {
	case len(payload) < 126:
		frame = append(frame, masked|byte(len(payload)))
	case len(payload) <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, masked|126), uint16(len(payload)))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, masked|127), uint64(len(payload)))
	}
	if c.masks {
		// A mask of zero leaves the payload as it is.
		frame = append(frame, 0, 0, 0, 0)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(append(frame, payload...))
	return err
}

// pingConn carries a byte stream in packets with a 4-byte length; an empty one is a ping.
type pingConn struct {
	net.Conn
	remaining uint32
}

func (c *pingConn) Read(p []byte) (int, error) {
	for c.remaining == 0 {
		var header [4]byte
		if _, err := io.ReadFull(c.Conn, header[:]); err != nil {
			return 0, err
		}
		if c.remaining = binary.BigEndian.Uint32(header[:]); c.remaining > maxFrame {
			return 0, fmt.Errorf("packet of %d bytes", c.remaining)
		}
	}
	if uint32(len(p)) > c.remaining {
		p = p[:c.remaining]
	}
	n, err := c.Conn.Read(p)
	c.remaining -= uint32(n)
	return n, err
}

func (c *pingConn) Write(p []byte) (int, error) {
	packet := binary.BigEndian.AppendUint32(nil, uint32(len(p)))
	if _, err := c.Conn.Write(append(packet, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
