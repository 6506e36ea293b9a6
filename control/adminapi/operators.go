package adminapi

import (
	"context"
	"fmt"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/filter"
)

func operator(a *access.Account) api.Operator {
	return api.Operator{Name: a.Name, Role: api.Role(a.Role), State: api.OperatorState(a.State), CreatedAt: a.Created,
		SeenAt: a.Seen, Sessions: a.Sessions, Tokens: a.Tokens}
}

func operatorAnswer(a *access.Account) OperatorAnswerJSONResponse {
	return OperatorAnswerJSONResponse{Body: operator(a), Headers: OperatorAnswerResponseHeaders{ETag: operatorTag(a)}}
}

func operatorTag(a *access.Account) string { return entityTag(uint64(a.Version)) }

// explainOperator adds to a refusal because of If-Match how the operator is now.
func (o *operations) explainOperator(ctx context.Context, refused error, name string) error {
	return o.explainChange(ctx, refused, fmt.Sprintf("action:operator.* target:%q", name), func() (any, error) {
		a, err := o.config.Operators.Account(ctx, name)
		if err != nil {
			return nil, err
		}
		return operator(a), nil
	})
}

func invitation(i *access.Invitation) api.OperatorWithInvitation {
	return api.OperatorWithInvitation{Operator: operator(&i.Account), Token: i.Token, ExpiresAt: i.Expires}
}

func (o *operations) ListOperators(ctx context.Context, request ListOperatorsRequestObject) (ListOperatorsResponseObject, error) {
	page, err := newPage(request.Params.Cursor, request.Params.Limit, "operators", request.Params.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(request.Params.Filter, time.Now(), access.AccountKeys...)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Operators.Accounts(ctx, terms, page.after, page.limit+1)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	answer := ListOperators200JSONResponse{Items: []api.Operator{}}
	if more {
		answer.Next = page.next(list[len(list)-1].Name)
	}
	for _, a := range list {
		answer.Items = append(answer.Items, operator(a))
	}
	return answer, nil
}

func (o *operations) AddOperator(ctx context.Context, request AddOperatorRequestObject) (AddOperatorResponseObject, error) {
	made, err := o.config.Operators.AddAccount(ctx, request.Body.Name, access.Role(request.Body.Role))
	if err != nil {
		return nil, err
	}
	return AddOperator201JSONResponse{Body: invitation(made), Headers: AddOperator201ResponseHeaders{ETag: operatorTag(&made.Account)}}, nil
}

func (o *operations) GetOperator(ctx context.Context, request GetOperatorRequestObject) (GetOperatorResponseObject, error) {
	a, err := o.config.Operators.Account(ctx, request.Operator)
	if err != nil {
		return nil, err
	}
	return GetOperator200JSONResponse{operatorAnswer(a)}, nil
}

func (o *operations) UpdateOperator(ctx context.Context, request UpdateOperatorRequestObject) (UpdateOperatorResponseObject, error) {
	a, err := o.config.Operators.UpdateAccount(ctx, request.Operator, int64(versionOf(request.Params.IfMatch)), access.Role(request.Body.Role), request.Body.Disabled)
	if err != nil {
		return nil, o.explainOperator(ctx, err, request.Operator)
	}
	return UpdateOperator200JSONResponse{operatorAnswer(a)}, nil
}

func (o *operations) RemoveOperator(ctx context.Context, request RemoveOperatorRequestObject) (RemoveOperatorResponseObject, error) {
	if err := o.config.Operators.RemoveAccount(ctx, request.Operator, int64(versionOf(request.Params.IfMatch))); err != nil {
		return nil, o.explainOperator(ctx, err, request.Operator)
	}
	return RemoveOperator204Response{}, nil
}

func (o *operations) InviteOperator(ctx context.Context, request InviteOperatorRequestObject) (InviteOperatorResponseObject, error) {
	made, err := o.config.Operators.Invite(ctx, request.Operator)
	if err != nil {
		return nil, err
	}
	return InviteOperator200JSONResponse{Body: invitation(made), Headers: InviteOperator200ResponseHeaders{ETag: operatorTag(&made.Account)}}, nil
}

func apiToken(t *access.Token) api.Token {
	return api.Token{Id: t.ID, Name: t.Name, Operator: t.Account, Scopes: scopes(t.Scopes), State: api.TokenState(t.State),
		CreatedAt: t.Created, ExpiresAt: t.Expires, UsedAt: t.Used}
}

func (o *operations) ListTokens(ctx context.Context, request ListTokensRequestObject) (ListTokensResponseObject, error) {
	page, err := newPage(request.Params.Cursor, request.Params.Limit, "tokens", request.Params.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(request.Params.Filter, time.Now(), access.TokenKeys...)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Operators.Tokens(ctx, askedOf(ctx).caller, terms, page.after, page.limit+1)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	answer := ListTokens200JSONResponse{Items: []api.Token{}}
	if more {
		answer.Next = page.next(list[len(list)-1].ID)
	}
	for _, t := range list {
		answer.Items = append(answer.Items, apiToken(t))
	}
	return answer, nil
}

func (o *operations) AddToken(ctx context.Context, request AddTokenRequestObject) (AddTokenResponseObject, error) {
	asking := make([]access.Scope, len(request.Body.Scopes))
	for i, scope := range request.Body.Scopes {
		asking[i] = access.Scope(scope)
	}
	added, secret, err := o.config.Operators.AddToken(ctx, askedOf(ctx).caller, request.Body.Name, asking, request.Body.Days)
	if err != nil {
		return nil, err
	}
	return AddToken201JSONResponse{Token: apiToken(added), Secret: secret}, nil
}

func (o *operations) RevokeToken(ctx context.Context, request RevokeTokenRequestObject) (RevokeTokenResponseObject, error) {
	if err := o.config.Operators.RevokeToken(ctx, askedOf(ctx).caller, request.Token); err != nil {
		return nil, err
	}
	return RevokeToken204Response{}, nil
}
