//! gRPC server reflection: which services there are, and their messages. What it shows is public, so that it needs neither the security
//! header nor an attestation.

use proto::reflection::v1::server_reflection_request::MessageRequest;
use proto::reflection::v1::server_reflection_response::MessageResponse;
use proto::reflection::v1::server_reflection_server::{SERVICE_NAME, ServerReflection};
use proto::reflection::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use proto::reflection::{declaring, with_imports};
use tokio_stream::StreamExt;
use tokio_stream::adapters::Map;
use tonic::{Code, Request, Response, Status, Streaming};

use super::server::{SDS, WORKLOAD_API};

/// An older name of the service, which is not listed: its messages are the same.
pub(super) const OLD_REFLECTION: &str = "grpc.reflection.v1alpha.ServerReflection";

/// The path of the call.
pub(super) const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The service.
#[derive(Clone, Copy)]
pub(super) struct Reflection;

type Asked = Result<ServerReflectionRequest, Status>;
type Answered = Result<ServerReflectionResponse, Status>;

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Map<Streaming<ServerReflectionRequest>, fn(Asked) -> Answered>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let answer: fn(Asked) -> Answered = |asked| asked.map(answer);
        Ok(Response::new(requests.into_inner().map(answer)))
    }
}

fn answer(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let response = match &request.message_request {
        Some(MessageRequest::ListServices(_)) => services(),
        Some(MessageRequest::FileByFilename(name)) => file(name),
        Some(MessageRequest::FileContainingSymbol(symbol)) => match declaring(symbol) {
            Some(found) => file(found.name),
            None => error(Code::NotFound, "no service has this symbol"),
        },
        Some(MessageRequest::FileContainingExtension(_)) => {
            error(Code::NotFound, "there are no extensions")
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => match declaring(name) {
            Some(_) => MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: Vec::new(),
            }),
            None => error(Code::NotFound, "no service has this type"),
        },
        None => error(Code::InvalidArgument, "the request asks for nothing that is known here"),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(response),
    }
}

fn services() -> MessageResponse {
    let service = [WORKLOAD_API, SDS, SERVICE_NAME];
    let service = service.map(|name| ServiceResponse { name: name.into() }).into();
    MessageResponse::ListServicesResponse(ListServiceResponse { service })
}

fn file(name: &str) -> MessageResponse {
    let files = with_imports(name);
    if files.is_empty() {
        return error(Code::NotFound, "no service has this file");
    }
    // A client reads them in any order; the one that it asked for is expected first.
    let file_descriptor_proto = files.iter().rev().map(|file| file.descriptor.to_vec()).collect();
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
}

fn error(code: Code, message: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: code as i32,
        error_message: message.into(),
    })
}
