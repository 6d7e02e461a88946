#include "api/request.h"
#include "wire/json.h"

namespace penstock::api {
namespace {

// Anthropic names its errors by status.
std::string_view AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

std::string RenderError(const ApiError& error, model::Api api) {
  std::string out;
  wire::JsonWriter json(&out);
  json.BeginObject();
  if (api == model::Api::kMessages || api == model::Api::kCountTokens) {
    json.Field("type", "error").Key("error").BeginObject();
    json.Field("type", AnthropicType(error.status)).Field("message", error.message);
  } else {
    json.Key("error").BeginObject();
    json.Field("message", error.message).Field("type", error.type).Key("param");
    error.param.empty() ? json.Null() : json.Value(error.param);
    json.Key("code");
    error.code.empty() ? json.Null() : json.Value(error.code);
  }
  json.EndObject().EndObject();
  return out;
}

}  // namespace penstock::api
