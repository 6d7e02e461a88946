// The id of the request's session, from a header or a cookie.
#include "core/text.h"
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

// The value of a cookie in a Cookie header, or "".
std::string_view CookieValue(std::string_view cookies, std::string_view name) {
  while (!cookies.empty()) {
    const size_t end = std::min(cookies.find(';'), cookies.size());
    const std::string_view pair = TrimSpace(cookies.substr(0, end));
    cookies.remove_prefix(std::min(end + 1, cookies.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || TrimSpace(pair.substr(0, equals)) != name) continue;
    std::string_view value = TrimSpace(pair.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      value = value.substr(1, value.size() - 2);
    }
    return value;
  }
  return {};
}

class SessionIdProducer : public sched::Producer {
 public:
  struct Params {
    std::string header_name;
    std::string cookie_name;
    template <class V>
    void Describe(V& v) {
      v.Field("headerName", header_name, {.text = "Header that carries the session's id."});
      v.Field("cookieName", cookie_name, {.text = "Cookie that carries it, instead of a header."});
    }
    std::string Problem() const {
      if (header_name.empty() != cookie_name.empty()) return "";
      return "exactly one of headerName and cookieName is needed";
    }
  };
  explicit SessionIdProducer(Params params) : params_(std::move(params)) {}

  std::vector<sched::DataKey> Produces() const override { return {sched::DataKey::kSessionId}; }

  void Prepare(sched::RequestContext& context, Time) const override {
    context.session_id = params_.cookie_name.empty()
                             ? TrimSpace(context.request.Header(params_.header_name))
                             : CookieValue(context.request.Header("cookie"), params_.cookie_name);
  }

  std::vector<sched::HeaderUse> HeadersRead() const override {
    const std::string& header = params_.cookie_name.empty() ? params_.header_name : kCookie;
    return {{header, true, "names the session", true}};
  }

 private:
  static const inline std::string kCookie = "cookie";

  const Params params_;
};

}  // namespace

sched::PluginType SessionIdProducerType() {
  auto type = sched::MakeType<SessionIdProducer>(
      "session-id-producer", sched::Kind::kProducer,
      "The id of the request's session, from a header or a cookie.");
  type.example = "{headerName: x-session-id}";
  return type;
}

}  // namespace penstock::plugins
