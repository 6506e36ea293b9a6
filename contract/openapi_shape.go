package contract

// The objects of OpenAPI 3.0.3 and 3.1.0 with the words of Fieldgate where they may stand. Parts that decide nothing
// (links, callbacks, encodings) are any value.

var serverShape = specified(fields{"url!": text, "description": text, "variables": mapOf(specified(fields{
	"default!": text, "enum": list(text), "description": text,
}))})

var exampleShape = specified(fields{
	"summary": text, "description": text, "value": anything, "externalValue": text,
	"x-fieldgate-expect": integer,
})

var mediaTypeShape = specified(fields{
	"schema": schemaShape, "example": anything, "examples": mapOf(orReference(exampleShape)), "encoding": anything,
})

var parameterShape = specified(fields{
	"name!": text, "in!": word("path", "query", "header", "cookie"), "description": anything, "required": boolean, "deprecated": boolean,
	"allowEmptyValue": boolean, "style": text, "explode": boolean, "allowReserved": boolean, "schema": schemaShape,
	"example": anything, "examples": mapOf(orReference(exampleShape)), "content": mapOf(mediaTypeShape),
	"x-fieldgate-bind": bindWord,
})

var requestBodyShape = specified(fields{"description": anything, "content!": mapOf(mediaTypeShape), "required": boolean})

var responseShape = specified(fields{
	"description": anything, "summary": text, "headers": anything, "content": mapOf(mediaTypeShape), "links": anything,
})

var securityShape = atMost(maxInherited, list(atMost(maxInherited, mapOf(atMost(maxInherited, list(text))))))

var operationShape = specified(fields{
	"tags": list(text), "summary": text, "description": anything, "externalDocs": anything, "operationId": text,
	"parameters": atMost(maxInherited, list(orReference(parameterShape))), "requestBody": orReference(requestBodyShape),
	"responses": extensibleMap(orReference(responseShape)), "callbacks": anything, "deprecated": boolean,
	"security": securityShape, "servers": list(serverShape),
	"x-fieldgate": operationWords, "x-fieldgate-bindings": openAPIBindingWords,
})

var pathItemShape = specified(fields{
	"$ref": text, "summary": text, "description": anything, "servers": list(serverShape), "parameters": atMost(maxInherited, list(orReference(parameterShape))),
	"get": operationShape, "put": operationShape, "post": operationShape, "delete": operationShape, "options": operationShape,
	"head": operationShape, "patch": operationShape, "trace": operationShape,
	"x-fieldgate": pathWords,
})

var openAPISecuritySchemeShape = specified(fields{
	"type!": word("apiKey", "http", "mutualTLS", "oauth2", "openIdConnect"), "description": anything, "name": text, "in": text,
	"scheme": text, "bearerFormat": text, "flows": anything, "openIdConnectUrl": text,
})

var infoShape = specified(fields{
	"title!": text, "version!": text, "summary": text, "description": anything, "termsOfService": text, "contact": anything, "license": anything,
	"tags": anything, "externalDocs": anything, // of AsyncAPI
})

var openAPIShape = specified(fields{
	"openapi!": text, "info!": infoShape, "jsonSchemaDialect": text, "servers": list(serverShape), "paths": extensibleMap(pathItemShape),
	"webhooks": anything, "security": securityShape, "tags": anything, "externalDocs": anything,
	"components": specified(fields{
		"schemas": mapOf(schemaShape), "responses": mapOf(orReference(responseShape)), "parameters": mapOf(orReference(parameterShape)),
		"examples": mapOf(orReference(exampleShape)), "requestBodies": mapOf(orReference(requestBodyShape)), "headers": anything,
		"securitySchemes": mapOf(orReference(openAPISecuritySchemeShape)), "links": anything, "callbacks": anything,
		"pathItems": mapOf(pathItemShape),
	}),
	"x-fieldgate": rootWords,
})
