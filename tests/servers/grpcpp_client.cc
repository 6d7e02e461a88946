// grpc++ as a client of grpc_echo: says "ok" when every kind of RPC goes as it should, else what
// does not.
//
//   grpcpp_client PORT [ROOT.pem]      with TLS when there is a root certificate
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr const char* kEcho = "/test.Echo/Echo";

grpc::ByteBuffer BufferOf(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string TextOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

void Check(bool holds, const char* what) {
  if (holds) return;
  std::printf("not so: %s\n", what);
  std::exit(1);
}

// One bidirectional RPC, one step after the other.
class Rpc {
 public:
  Rpc(grpc::GenericStub& stub, const char* method, std::chrono::milliseconds limit,
      bool is_compressed = false) {
    context_.set_deadline(std::chrono::system_clock::now() + limit);
    if (is_compressed) context_.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    call_ = stub.PrepareCall(&context_, method, &queue_);
    call_->StartCall(this);
    is_good_ = Next();
  }
  bool Send(const std::string& text) {
    call_->Write(BufferOf(text), this);
    return Next();
  }
  bool Receive(std::string* text) {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!Next()) return false;
    *text = TextOf(buffer);
    return true;
  }
  void HalfClose() {
    call_->WritesDone(this);
    (void)Next();
  }
  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    (void)Next();
    return status;
  }
  void Cancel() { context_.TryCancel(); }
  bool is_good() const { return is_good_; }

 private:
  bool Next() {
    void* tag = nullptr;
    bool is_good = false;
    return queue_.Next(&tag, &is_good) && is_good;
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool is_good_ = false;
};

void CheckMessages(grpc::GenericStub& stub) {
  Rpc rpc(stub, kEcho, std::chrono::seconds(60));
  Check(rpc.is_good(), "an RPC begins");
  for (const size_t size : {0u, 1u, 1000u, 100'000u, 3'000'000u, 5u}) {
    const std::string sent(size, static_cast<char>('a' + size % 26));
    std::string received = "nothing";
    Check(rpc.Send(sent) && rpc.Receive(&received) && received == sent, "a message comes back");
  }
  rpc.HalfClose();
  std::string more;
  Check(!rpc.Receive(&more), "nothing follows the last message");
  Check(rpc.Finish().ok(), "the RPC ends well");
}

void CheckRefusals(grpc::GenericStub& stub) {
  Rpc unknown(stub, "/test.Echo/Nowhere", std::chrono::seconds(60));
  unknown.HalfClose();
  Check(unknown.Finish().error_code() == grpc::UNIMPLEMENTED, "an unknown method is told so");

  Rpc compressed(stub, kEcho, std::chrono::seconds(60), true);
  (void)compressed.Send(std::string(10'000, 'x'));
  Check(compressed.Finish().error_code() == grpc::UNIMPLEMENTED, "gzip is refused");

  Rpc large(stub, kEcho, std::chrono::seconds(60));
  (void)large.Send(std::string(5'000'000, 'x'));
  Check(large.Finish().error_code() == grpc::RESOURCE_EXHAUSTED, "5 MB are refused");
}

void CheckEnds(grpc::GenericStub& stub) {
  Rpc late(stub, kEcho, std::chrono::milliseconds(200));
  Check(late.Finish().error_code() == grpc::DEADLINE_EXCEEDED, "the time limit ends an RPC");

  Rpc gone(stub, kEcho, std::chrono::seconds(60));
  Check(gone.Send("x"), "a message goes out");
  gone.Cancel();
  Check(gone.Finish().error_code() == grpc::CANCELLED, "a cancelled RPC ends");
}

void CheckHealth(grpc::GenericStub& stub) {
  Rpc rpc(stub, "/grpc.health.v1.Health/Check", std::chrono::seconds(60));
  std::string answer;
  Check(rpc.Send(""), "a question goes out");
  rpc.HalfClose();
  Check(rpc.Receive(&answer), "health is told");
  Check(answer == std::string("\x08\x01", 2), "it serves");
  Check(rpc.Finish().ok(), "the check ends well");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: grpcpp_client PORT [ROOT.pem]\n");
    return 2;
  }
  auto credentials = grpc::InsecureChannelCredentials();
  if (argc > 2) {
    std::ifstream file(argv[2]);
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = std::string(std::istreambuf_iterator<char>(file), {});
    credentials = grpc::SslCredentials(options);
  }
  grpc::GenericStub stub(grpc::CreateChannel(
      std::string(argc > 2 ? "localhost:" : "127.0.0.1:") + argv[1], credentials));
  CheckMessages(stub);
  CheckRefusals(stub);
  CheckEnds(stub);
  CheckHealth(stub);
  std::printf("ok\n");
}
