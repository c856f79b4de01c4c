# Sets openai_sources: requests and answers of the OpenAI API, free of sockets and of the engine.

# The document is compiled in, so that the server needs no files beside itself.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS openai/openapi.json)
file(READ openai/openapi.json OPENAPI_DOCUMENT)
string(CONFIGURE "${OPENAPI_DOCUMENT}" OPENAPI_DOCUMENT @ONLY)
configure_file(openai/openapi.cpp.in openai/openapi.cpp @ONLY)

set(openai_sources
  openai/api_error.cpp
  openai/chat_request.cpp
  openai/completion_request.cpp
  openai/generation_parameters.cpp
  openai/inference_request.cpp
  openai/json_objects.cpp
  openai/load_request.cpp
  openai/object_reader.cpp
  openai/response.cpp
  openai/text_assembler.cpp
  openai/tokenize_request.cpp
  openai/tools.cpp
  openai/valid_utf8.cpp
  ${CMAKE_CURRENT_BINARY_DIR}/openai/openapi.cpp)
