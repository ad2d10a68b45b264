import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { Tooltip } from "radix-ui";

import { ApiError } from "@/shared/api/client";
import { ZoneProvider } from "@/shared/components/clock";
import { Toasts } from "@/shared/components/toasts";

import { makeRouter } from "./router";

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // Changes are pushed: what was read stays true until the live stream says otherwise.
      staleTime: Number.POSITIVE_INFINITY,
      refetchOnWindowFocus: false,
      retry: (count, error) => (error instanceof ApiError && error.status === 0) || count < 1,
      retryDelay: 1500,
    },
  },
});
const router = makeRouter(queries);

export function App() {
  return (
    <QueryClientProvider client={queries}>
      <ZoneProvider>
        <Tooltip.Provider delayDuration={350}>
          <RouterProvider router={router} />
          <Toasts />
        </Tooltip.Provider>
      </ZoneProvider>
    </QueryClientProvider>
  );
}
