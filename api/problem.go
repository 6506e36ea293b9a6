package api

// Error makes a Problem, as the server answers it, an error of the client.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}
