package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// tunnel joins client and instance after a 101, until both directions have ended. They end, too, with the request's
// context and with the forwarder.
func (x *relay) tunnel(resp *http.Response) {
	upgrade := resp.Header["Upgrade"][:1]
	header := x.w.Header()
	copyResponseHeader(header, resp.Header, false)
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, upgrade // in the instance's own case: clients have been picky
	renameWebSocket(header)
	x.status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.Forwarder.logger.Error("a server that can't give its connection away can't switch protocols", "error", err)
		panic(http.ErrAbortHandler)
	}
	instance := resp.Body.(*tunnelBody)
	ends := &tunnelEnds{client: client, instance: instance}
	defer x.Forwarder.own(ends)()
	defer ends.Close()
	defer context.AfterFunc(x.r.Context(), func() { ends.Close() })()

	if err := buffered.Flush(); err != nil {
		return
	}
	// The client may have sent more than its request already, which the server has read.
	ahead, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	if _, err := instance.Write(ahead); err != nil {
		return
	}
	ends.join()
}

// tunnelEnds are the two connections of a tunnel.
type tunnelEnds struct {
	client   io.ReadWriteCloser
	instance io.ReadWriteCloser
}

// Close ends the tunnel.
func (t *tunnelEnds) Close() error { return errors.Join(t.instance.Close(), t.client.Close()) }

// join copies both ways. An end of data in one direction is passed on and leaves the other one open; anything else ends
// both.
func (t *tunnelEnds) join() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.copy(t.instance, t.client)
	}()
	t.copy(t.client, t.instance)
	<-done
}

func (t *tunnelEnds) copy(to, from io.ReadWriteCloser) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buffer[:])
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		t.Close()
	}
}
