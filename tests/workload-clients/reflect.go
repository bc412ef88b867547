package main

import (
	"context"
	"fmt"
	"sort"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	v1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// reflect asks which services there are, under both names of the service that knows it, and for the methods of each. It sends no security
// header.
func reflect(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	ask := func(request *v1.ServerReflectionRequest) (*v1.ServerReflectionResponse, error) {
		if err := stream.Send(request); err != nil {
			return nil, err
		}
		return stream.Recv()
	}
	listed, err := ask(&v1.ServerReflectionRequest{MessageRequest: &v1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return err
	}
	methods := map[string][]string{}
	for _, service := range listed.GetListServicesResponse().GetService() {
		symbol := &v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service.GetName()}
		answer, err := ask(&v1.ServerReflectionRequest{MessageRequest: symbol})
		if err != nil {
			return err
		}
		methods[service.GetName()], err = methodsOf(service.GetName(), answer.GetFileDescriptorResponse())
		if err != nil {
			return err
		}
	}
	unknown := &v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "No.Such"}
	answer, err := ask(&v1.ServerReflectionRequest{MessageRequest: unknown})
	if err != nil {
		return err
	}
	older, err := listOlder(ctx, conn)
	if err != nil {
		return err
	}
	say(map[string]any{"methods": methods, "unknown": answer.GetErrorResponse().GetErrorCode(), "older": older})
	return nil
}

func methodsOf(service string, answer *v1.FileDescriptorResponse) ([]string, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, content := range answer.GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(content, file); err != nil {
			return nil, err
		}
		set.File = append(set.File, file)
	}
	// It resolves every import and every type.
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	declared, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", service)
	}
	var names []string
	for i := range declared.Methods().Len() {
		names = append(names, string(declared.Methods().Get(i).Name()))
	}
	sort.Strings(names)
	return names, nil
}

func listOlder(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
	//lint:ignore SA1019 older clients use it
	stream, err := v1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&v1alpha.ServerReflectionRequest{MessageRequest: &v1alpha.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names, nil
}
