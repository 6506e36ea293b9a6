package adminapi

import (
	"context"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/refusal"
)

func session(c *access.Caller, current bool) api.Session {
	return api.Session{Id: sessionID(c), Name: c.Account, Kind: api.SessionKind(c.Kind), Role: api.Role(c.Role), Scopes: scopes(c.Scopes),
		CreatedAt: c.Created, SeenAt: c.Seen, ExpiresAt: c.Expires, Source: c.Source, UserAgent: c.Agent, Current: current}
}

func sessionID(c *access.Caller) string {
	if c.Kind == access.KindToken {
		return ""
	}
	return c.ID
}

func scopes(list []access.Scope) []api.Scope {
	converted := make([]api.Scope, len(list))
	for i, scope := range list {
		converted[i] = api.Scope(scope)
	}
	return converted
}

func (o *operations) GetSetup(ctx context.Context, _ GetSetupRequestObject) (GetSetupResponseObject, error) {
	claimed, err := o.config.Operators.Claimed(ctx)
	if err != nil {
		return nil, err
	}
	answer := GetSetup200JSONResponse{Claimed: claimed, SignedIn: askedOf(ctx).caller != nil, Version: o.config.Version}
	if !claimed {
		// It is served on this machine only until then.
		answer.TokenFile = o.config.Operators.SignInTokenPath()
	}
	return answer, nil
}

func (o *operations) GetSession(ctx context.Context, _ GetSessionRequestObject) (GetSessionResponseObject, error) {
	return GetSession200JSONResponse(session(askedOf(ctx).caller, true)), nil
}

func (o *operations) SignIn(ctx context.Context, request SignInRequestObject) (SignInResponseObject, error) {
	ask := askedOf(ctx)
	var started *access.Started
	var err error
	switch body := request.Body; {
	case body.Token != "" && body.Name == "" && body.Password == "":
		started, err = o.config.Operators.Redeem(ctx, body.Token, ask.client)
	case body.Token == "" && body.Name != "" && body.Password != "":
		started, err = o.config.Operators.SignIn(ctx, body.Name, body.Password, ask.client)
	default:
		err = refusal.Invalid("Send either token, or name and password.")
	}
	if err != nil {
		return nil, err
	}
	return SignIn200JSONResponse(ask.begin(started)), nil
}

// begin hands out the cookie of a session that has begun.
func (a *asked) begin(started *access.Started) api.Session {
	a.giveCookie(started.Secret, started.Caller.Expires)
	return session(&started.Caller, true)
}

func (o *operations) SignOut(ctx context.Context, _ SignOutRequestObject) (SignOutResponseObject, error) {
	ask := askedOf(ctx)
	if caller := ask.caller; caller != nil && sessionID(caller) != "" {
		if err := o.config.Operators.SignOut(ctx, caller); err != nil {
			return nil, err
		}
	}
	ask.giveCookie("", time.Time{})
	return SignOut204Response{}, nil
}

func (o *operations) Claim(ctx context.Context, request ClaimRequestObject) (ClaimResponseObject, error) {
	ask := askedOf(ctx)
	started, err := o.config.Operators.Claim(ctx, ask.caller, request.Body.Name, request.Body.Password, ask.client)
	if err != nil {
		return nil, err
	}
	return Claim201JSONResponse(ask.begin(started)), nil
}

func (o *operations) SetPassword(ctx context.Context, request SetPasswordRequestObject) (SetPasswordResponseObject, error) {
	ask := askedOf(ctx)
	started, err := o.config.Operators.SetPassword(ctx, ask.caller, request.Body.Current, request.Body.Password, ask.client)
	if err != nil {
		return nil, err
	}
	ask.begin(started)
	return SetPassword204Response{}, nil
}

func (o *operations) ListSessions(ctx context.Context, request ListSessionsRequestObject) (ListSessionsResponseObject, error) {
	page, err := newPage(request.Params.Cursor, request.Params.Limit, "sessions")
	if err != nil {
		return nil, err
	}
	caller := askedOf(ctx).caller
	list, err := o.config.Operators.Sessions(ctx, caller, page.after, page.limit+1)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	answer := ListSessions200JSONResponse{Items: []api.Session{}}
	if more {
		answer.Next = page.next(list[len(list)-1].ID)
	}
	for _, s := range list {
		answer.Items = append(answer.Items, session(s, s.ID == sessionID(caller)))
	}
	return answer, nil
}

func (o *operations) EndSession(ctx context.Context, request EndSessionRequestObject) (EndSessionResponseObject, error) {
	if err := o.config.Operators.EndSession(ctx, askedOf(ctx).caller, request.Session); err != nil {
		return nil, err
	}
	return EndSession204Response{}, nil
}
