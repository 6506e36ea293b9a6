package catalog

import (
	"fmt"
	"testing"

	"fieldgate/control/controltest"
)

// BenchmarkPublish publishes one contract again and again, each time with another route, among others: what that costs must not grow with their number.
func BenchmarkPublish(b *testing.B) {
	for _, others := range []int{0, 10, 1000} {
		b.Run(fmt.Sprint(others, " live"), func(b *testing.B) {
			c, _ := open(b, b.TempDir())
			ctx := controltest.Context(b)
			for i := range others {
				if _, err := c.Publish(ctx, "x.yaml", document(fmt.Sprint("Other", i), "1.0.0", fmt.Sprintf("/other%d/a", i), fmt.Sprintf("/other%d/b", i)), false, 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := c.Publish(ctx, "x.yaml", document("Thermo", "1.0.0", "/a", fmt.Sprint("/b", i)), false, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPublishAll publishes 1,000 contracts in one decision, each time with other routes.
func BenchmarkPublishAll(b *testing.B) {
	c, _ := open(b, b.TempDir())
	ctx := controltest.Context(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		documents := make([]Document, 1000)
		for j := range documents {
			documents[j] = Document{fmt.Sprint(j), document(fmt.Sprint("Api", j), "1.0.0", fmt.Sprintf("/api%d/a%d", j, i), fmt.Sprintf("/api%d/b%d", j, i))}
		}
		if _, err := c.PublishAll(ctx, documents, false); err != nil {
			b.Fatal(err)
		}
	}
}
