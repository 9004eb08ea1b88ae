// A trust domain by go-spiffe, SPIFFE's own library: bundle endpoints of both profiles, JWT-SVIDs, and calls with an X.509-SVID. Told what to do by
// lines of JSON; answers each with one. For scripts/check-spiffe.ts alone.
package main

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const server = "/spire/server"

var domain = spiffeid.RequireTrustDomainFromString("prod.example")

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	keyID       string
	jwtKey      *ecdsa.PrivateKey
}

type ask struct {
	Op, Path, Audience, URL, CA string
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "spiffe:", err)
		os.Exit(1)
	}
	return value
}

func newKey() *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func newSerial() *big.Int {
	return must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))
}

func newAuthority(name string) *authority {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{domain.ID().URL()},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	raw := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{must(x509.ParseCertificate(raw)), key, name, newKey()}
}

func (by *authority) issue(path string, dns ...string) *x509svid.SVID {
	id := spiffeid.RequireFromPath(domain, path)
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: newSerial(), URIs: []*url.URL{id.URL()}, DNSNames: dns,
		NotBefore: time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw := must(x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key))
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{must(x509.ParseCertificate(raw))}, PrivateKey: key}
}

func (by *authority) token(bundle *spiffebundle.Bundle, path, audience string) string {
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: by.jwtKey, KeyID: by.keyID}}, nil))
	claims := jwt.Claims{
		Subject: spiffeid.RequireFromPath(domain, path).String(), Audience: jwt.Audience{audience},
		Expiry: jwt.NewNumericDate(time.Now().Add(5 * time.Minute)), IssuedAt: jwt.NewNumericDate(time.Now()),
	}
	token := must(jwt.Signed(signer).Claims(claims).Serialize())
	must(jwtsvid.ParseAndValidate(token, bundle, []string{audience}))
	return token
}

func publish(bundle *spiffebundle.Bundle, authorities ...*authority) {
	certificates := []*x509.Certificate{}
	keys := map[string]crypto.PublicKey{}
	for _, one := range authorities {
		certificates = append(certificates, one.certificate)
		keys[one.keyID] = one.jwtKey.Public()
	}
	bundle.SetX509Authorities(certificates)
	bundle.SetJWTAuthorities(keys)
	sequence, _ := bundle.SequenceNumber()
	bundle.SetSequenceNumber(sequence + 1)
}

func serve(handler http.Handler, config *tls.Config) string {
	listener := must(tls.Listen("tcp", "127.0.0.1:0", config))
	go func() { _ = http.Serve(listener, handler) }()
	return "https://" + listener.Addr().(*net.TCPAddr).String()
}

func call(svid *x509svid.SVID, to ask) map[string]any {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(to.CA))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: tlsconfig.MTLSWebClientConfig(svid, roots)}, Timeout: 10 * time.Second}
	answer, err := client.Get(to.URL)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	defer answer.Body.Close()
	return map[string]any{"status": answer.StatusCode, "body": string(must(io.ReadAll(answer.Body)))}
}

func main() {
	bundle := spiffebundle.New(domain)
	bundle.SetRefreshHint(30 * time.Second)
	current := newAuthority("first")
	publish(bundle, current)
	handler := must(federation.NewHandler(domain, bundle))
	named := current.issue("/web", "localhost")
	web := tls.Certificate{Certificate: [][]byte{named.Certificates[0].Raw}, PrivateKey: named.PrivateKey}
	answer := func(value any) { fmt.Println(string(must(json.Marshal(value)))) }
	answer(map[string]any{
		"web":    serve(handler, &tls.Config{Certificates: []tls.Certificate{web}}),
		"spiffe": serve(handler, tlsconfig.TLSServerConfig(current.issue(server))),
		"ca":     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: current.certificate.Raw})),
		"bundle": json.RawMessage(must(bundle.Marshal())),
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var to ask
		must(0, json.Unmarshal(lines.Bytes(), &to))
		switch to.Op {
		case "token":
			answer(map[string]any{"token": current.token(bundle, to.Path, to.Audience)})
		case "call":
			answer(call(current.issue(to.Path), to))
		case "strange":
			answer(call(newAuthority("stranger").issue(to.Path), to))
		case "rotate":
			old := current
			current = newAuthority("second")
			publish(bundle, old, current)
			answer(map[string]any{})
		case "retire":
			publish(bundle, current)
			answer(map[string]any{})
		}
	}
}
