# penstock_proto(files...)
#
# Makes the library penstock_proto of the messages in proto/*.proto: "proto/NAME.pb.h", lite runtime.
find_package(Protobuf REQUIRED)
function(penstock_proto)
  set(out ${CMAKE_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out}/proto)
  set(sources)
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME_WE)
    add_custom_command(
      OUTPUT ${out}/proto/${name}.pb.cc ${out}/proto/${name}.pb.h
      COMMAND protobuf::protoc --cpp_out=${out} -I ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${file}
      DEPENDS ${CMAKE_SOURCE_DIR}/${file} VERBATIM)
    list(APPEND sources ${out}/proto/${name}.pb.cc)
  endforeach()
  add_library(penstock_proto STATIC ${sources})
  target_include_directories(penstock_proto SYSTEM PUBLIC ${out})
  # What a generator writes is not held to our warnings.
  target_compile_options(penstock_proto PRIVATE -w)
  target_link_libraries(penstock_proto PUBLIC protobuf::libprotobuf-lite Threads::Threads)
endfunction()
