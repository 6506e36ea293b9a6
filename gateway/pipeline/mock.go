package pipeline

import (
	"strconv"

	"fieldgate"
)

// mockAnswer is what an operation without upstream answers: its first declared success, with that response's example.
func mockAnswer(o *fieldgate.Operation) Answer {
	for _, response := range o.Responses {
		status, err := strconv.Atoi(response.Status)
		switch {
		case response.Status == "2XX":
			status = 200
		case err != nil || status < 200 || status > 299:
			continue
		}
		answer := Answer{Status: status}
		for _, media := range response.Media {
			if len(media.Example) != 0 {
				answer.ContentType, answer.Body = media.Type, media.Example
				break
			}
		}
		return answer
	}
	return Answer{Status: 204}
}
