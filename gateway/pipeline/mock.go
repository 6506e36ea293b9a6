package pipeline

import (
	"encoding/json"
	"slices"
	"strconv"

	"fieldgate"
	"fieldgate/contract/schema"
)

// mockAnswers are what an operation without upstream answers: its first declared success, in each form that it has an example of.
func mockAnswers(o *fieldgate.Operation, schemas *schemas) ([]Answer, error) {
	for _, response := range o.Responses {
		status, err := strconv.Atoi(response.Status)
		switch {
		case response.Status == "2XX":
			status = 200
		case err != nil || status < 200 || status > 299:
			continue
		}
		var forms []Answer
		for _, media := range response.Media {
			if len(media.Example) == 0 {
				continue
			}
			content, err := exampleContent(&media, schemas)
			if err != nil {
				return nil, err
			}
			forms = append(forms, Answer{Status: status, ContentType: media.Type, Body: content})
		}
		if len(forms) == 0 {
			forms = []Answer{{Status: status}}
		}
		return forms, nil
	}
	return []Answer{{Status: 204}}, nil
}

// exampleContent is an example as content of its media type: examples are JSON (OpenAPI 3.1 §4.8.14), and a text in another type is meant
// as it stands.
func exampleContent(media *fieldgate.MediaType, schemas *schemas) ([]byte, error) {
	switch encodingOf(media.Type) {
	case encodingJSON:
		return media.Example, nil
	case encodingCBOR:
		compiled, err := schemas.compile(media.Schema)
		if err != nil {
			return nil, err
		}
		return schema.CBORFromJSON(nil, media.Example, compiled)
	}
	var content string
	if json.Unmarshal(media.Example, &content) == nil {
		return []byte(content), nil
	}
	return media.Example, nil
}

// mock is the form of the operation's example that the caller likes best; of several the first.
func (x *Exchange) mock() Answer {
	forms := x.Operation.mocks
	best := &forms[0]
	switch {
	case len(forms) == 1:
	case x.toCBOR: // which is made from JSON
		if i := slices.IndexFunc(forms, func(a Answer) bool { return encodingOf(a.ContentType) == encodingJSON }); i >= 0 {
			best = &forms[i]
		}
	case x.Fields != nil:
		if accept, said := x.Fields.Field("accept"); said && string(accept) != "*/*" {
			greatest := x.weight(best.ContentType)
			for i := range forms[1:] {
				if weight := x.weight(forms[i+1].ContentType); weight > greatest {
					best, greatest = &forms[i+1], weight
				}
			}
		}
	}
	return *best
}
