package contract

// The objects of AsyncAPI 3.0.0 with the words of Fieldgate where they may stand.

// maxMessages bounds the messages of a channel or operation.
const maxMessages = 256

var asyncServerShape = specified(fields{
	"host!": text, "protocol!": text, "protocolVersion": text, "pathname": text, "description": anything, "title": text, "summary": text,
	"variables": anything, "security": atMost(maxInherited, list(orReference(asyncSecuritySchemeShape))), "tags": anything, "externalDocs": anything, "bindings": anything,
})

var asyncSecuritySchemeShape = specified(fields{
	"type!": word("userPassword", "apiKey", "X509", "symmetricEncryption", "asymmetricEncryption", "httpApiKey", "http", "oauth2",
		"openIdConnect", "plain", "scramSha256", "scramSha512", "gssapi"),
	"description": anything, "name": text, "in": text, "scheme": text, "bearerFormat": text, "flows": anything, "openIdConnectUrl": text,
	"scopes": atMost(maxInherited, list(text)),
})

var asyncParameterShape = specified(fields{
	"enum": list(text), "default": text, "description": anything, "examples": list(text), "location": text,
	"x-fieldgate-bind": bindWord,
})

var messageTraitShape = specified(fields{
	"headers": anything, "correlationId": anything, "contentType": text, "name": text, "title": text, "summary": text, "description": anything,
	"tags": anything, "externalDocs": anything, "bindings": anything, "examples": list(messageExampleShape),
})

var messageExampleShape = specified(fields{
	"name": text, "summary": text, "headers": anything, "payload": anything,
	"x-fieldgate-expect": integer,
})

var messageShape = with(messageTraitShape, fields{"payload": anything, "traits": atMost(maxInherited, list(orReference(messageTraitShape)))})

var channelShape = specified(fields{
	"address": anything, "messages": atMost(maxMessages, mapOf(orReference(messageShape))), "title": text, "summary": text, "description": anything,
	"servers": anything, "parameters": mapOf(orReference(asyncParameterShape)), "tags": anything, "externalDocs": anything, "bindings": anything,
	"x-fieldgate": pathWords,
})

var operationTraitShape = specified(fields{
	"title": text, "summary": text, "description": anything, "security": atMost(maxInherited, list(orReference(asyncSecuritySchemeShape))), "tags": anything,
	"externalDocs": anything,
	"bindings": orReference(specified(fields{
		"mqtt": specified(fields{"qos": integer, "retain": boolean, "messageExpiryInterval": anything, "bindingVersion": text}),
		"http": anything, "ws": anything, "kafka": anything, "anypointmq": anything, "amqp": anything, "amqp1": anything, "mqtt5": anything,
		"nats": anything, "jms": anything, "sns": anything, "solace": anything, "sqs": anything, "stomp": anything, "redis": anything,
		"mercure": anything, "ibmmq": anything, "googlepubsub": anything, "pulsar": anything,
	})),
})

var asyncOperationShape = with(operationTraitShape, fields{
	"action!": word("send", "receive"), "channel!": anything, "messages": atMost(maxMessages, list(anything)), "reply": anything,
	"traits":      atMost(maxInherited, list(orReference(operationTraitShape))),
	"x-fieldgate": operationWords, "x-fieldgate-bindings": asyncAPIBindingWords,
})

var asyncAPIShape = specified(fields{
	"asyncapi!": text, "id": text, "info!": infoShape, "defaultContentType": text, "servers": atMost(maxInherited, mapOf(orReference(asyncServerShape))),
	"channels": mapOf(orReference(channelShape)), "operations": mapOf(orReference(asyncOperationShape)),
	"components": specified(fields{
		"schemas": mapOf(anything), "servers": mapOf(orReference(asyncServerShape)), "channels": mapOf(orReference(channelShape)),
		"operations": mapOf(orReference(asyncOperationShape)), "messages": mapOf(orReference(messageShape)),
		"securitySchemes": mapOf(orReference(asyncSecuritySchemeShape)), "serverVariables": anything,
		"parameters": mapOf(orReference(asyncParameterShape)), "correlationIds": anything, "replies": anything, "replyAddresses": anything,
		"externalDocs": anything, "tags": anything, "operationTraits": mapOf(orReference(operationTraitShape)),
		"messageTraits": mapOf(orReference(messageTraitShape)), "serverBindings": anything, "channelBindings": anything,
		"operationBindings": anything, "messageBindings": anything,
	}),
	"x-fieldgate": rootWords,
})

// with is the specified object s with more members.
func with(s *shape, more fields) *shape {
	extended := specified(more)
	for name, member := range s.fields {
		extended.fields[name] = member
	}
	return extended
}
